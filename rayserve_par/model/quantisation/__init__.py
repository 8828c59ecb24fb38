"""How a checkpoint stores its weights and KV cache, and how a usual one of a precision would."""

from rayserve_par.model.quantisation.methods import rules_from_config
from rayserve_par.model.quantisation.recipes import PRECISIONS, with_precision
from rayserve_par.model.quantisation.rules import QuantisationRules
from rayserve_par.model.quantisation.source import quantization_of

__all__ = [
    "PRECISIONS",
    "QuantisationRules",
    "quantization_of",
    "rules_from_config",
    "with_precision",
]
