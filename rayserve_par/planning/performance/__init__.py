"""How fast a layout is: TTFT, TPOT and throughput from physics and a few fitted constants."""

from rayserve_par.planning.performance.constants import Constants, shipped_constants
from rayserve_par.planning.performance.predict import (
    OperatingPoint,
    Predictor,
    decode_seconds,
    predict,
    predictor,
    prefill_seconds,
)

__all__ = [
    "Constants",
    "OperatingPoint",
    "Predictor",
    "decode_seconds",
    "predict",
    "predictor",
    "prefill_seconds",
    "shipped_constants",
]
