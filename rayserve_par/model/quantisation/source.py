"""Where a checkpoint says how it is quantised, and which place wins.

    1. quantization_config of config.json (of its text_config; compression_config, the old name)
    2. hf_quant_config.json beside it, which older modelopt releases write alone

The file also counts where config.json says MIXED_PRECISION without the layers that are meant.
Source: vllm/transformers_utils/config.py and model_executor/model_loader/weight_utils.py.
"""

from collections.abc import Mapping
from typing import Any


def quantization_of(
    config: Mapping[str, Any], hf_quant_config: Mapping[str, Any] | None = None
) -> Mapping[str, Any] | None:
    """The quantisation that counts; None where the checkpoint is not quantised.

    DeepSeek-V4 gives the format of its experts (`expert_dtype`) outside; it comes with the rest.
    """
    text = config.get("text_config") or {}
    found = (
        config.get("quantization_config")
        or text.get("quantization_config")
        or config.get("compression_config")
    )
    if hf_quant_config and (not found or _lacks_layers(found)):
        found = hf_quant_config
    experts = config.get("expert_dtype") or text.get("expert_dtype")
    if found and experts:
        return {**found, "expert_dtype": experts}
    return found or None


def _lacks_layers(quant: Mapping[str, Any]) -> bool:
    mixed = str(quant.get("quant_algo")).upper() == "MIXED_PRECISION"
    return mixed and not quant.get("quantized_layers")
