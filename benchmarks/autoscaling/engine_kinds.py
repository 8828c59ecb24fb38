"""Engines to replay a trace against: configs and limits, and the load each gets by default."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.serving.mock_engine.times import EngineTimes

MOCK = EngineTimes()
_TINY_LENGTH, _TINY_SEQUENCES, _TINY_BUDGET = 1024, 64, 512
# The simulated front sheds nothing, so the real one must not.
UNLIMITED = {"concurrency": {"mode": "off"}}


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine to replay against: its config and limits; what the load is by default.

    `tokens` is the factor of prompt lengths, `busy` the share of time that steps with prompts take,
    `warm_ups` where in the trace the slices begin that times are fitted to, where they are not set.
    """

    args: dict[str, Any]
    limits: EngineLimits
    longest: int
    tokens: float
    busy: float
    instances: int
    probe_isl: tuple[int, ...]
    seconds: float
    starts: tuple[float, ...] = (600.0,)
    warm_ups: tuple[float, ...] = ()


KINDS = {
    "mock": Kind(
        args={
            "model": "tiny-llama",
            "layout": {"tp": 1},
            "admission": UNLIMITED,
            "mock_engine": asdict(MOCK),
        },
        limits=EngineLimits(MOCK.kv_tokens, MOCK.max_num_seqs, MOCK.max_num_batched_tokens),
        longest=MOCK.max_model_len,
        tokens=1.0,
        busy=0.5,
        instances=2,
        probe_isl=(64, 1024),
        seconds=180.0,
    ),
    "tiny-llama": Kind(
        args={
            "model": "tiny-llama",
            "layout": {"tp": 1},
            "admission": UNLIMITED,
            "engine": {
                "max_model_len": _TINY_LENGTH,
                "dtype": "float32",
                "max_num_seqs": _TINY_SEQUENCES,
                "max_num_batched_tokens": _TINY_BUDGET,
            },
        },
        # 256 MiB of KV cache: far more than the slice ever holds, so a bound is not needed.
        limits=EngineLimits(1_000_000, _TINY_SEQUENCES, _TINY_BUDGET),
        longest=_TINY_LENGTH,
        tokens=0.1,
        # Its decodes take longer than its prefills, and all processes share few cores.
        busy=0.08,
        instances=1,
        probe_isl=(32, 128, 256, 480),
        seconds=50.0,
        starts=(600.0, 3000.0),
        warm_ups=(900.0, 2100.0),
    ),
}
