"""What publishers say a model's parameters are, as they print it, and what they count.

Figures come from model cards and papers. A figure taken from the hub's safetensors metadata counts
every stored tensor, vision tower and MTP layers too. `ModelSpec.parameters` counts the vision tower
and leaves MTP out; `active_parameters` counts the vision tower and the whole embedding table.
`Counts` names every difference from that. Few publishers say what their active figure leaves out;
where they do not, the entry names the reading that the figure agrees with, in most cases without
the embedding and the vision tower: neither is multiplied with every token.
"""

from dataclasses import dataclass
from enum import StrEnum
from math import floor

HUB = "https://huggingface.co/"
SCALES = {"T": 1e12, "B": 1e9, "M": 1e6}


class Counts(StrEnum):
    """A difference between what the publication counts and what `ModelSpec` counts."""

    MTP_IN_TOTAL = "MTP layers are in the total"
    VISION_OUT_OF_TOTAL = "the vision tower is not in the total"
    VISION_OUT_OF_ACTIVE = "the vision tower is not active"
    EMBEDDING_OUT_OF_ACTIVE = "the embedding table is not active"
    HEAD_OUT_OF_ACTIVE = "the output head is not active"
    ACTIVE_CUT_OFF = "further digits of the active figure are dropped, not rounded"


@dataclass(frozen=True, slots=True)
class Figure:
    """A printed number of parameters, such as 30.5B."""

    text: str

    @property
    def value(self) -> float:
        """The number of parameters."""
        return float(self.text[:-1].replace(",", "")) * SCALES[self.text[-1]]

    @property
    def half_unit(self) -> float:
        """Half of the last printed digit: how far rounding alone may move the figure."""
        decimals = len(self.text[:-1].partition(".")[2])
        return float(0.5 * 10**-decimals * SCALES[self.text[-1]])

    @property
    def tolerance(self) -> float:
        """1%, or what the rounding hides where that is more."""
        return max(0.01 * self.value, self.half_unit)

    def cut_off(self, value: float) -> float:
        """`value` with as many digits as are printed, the others dropped."""
        unit = 2 * self.half_unit
        return floor(value / unit + 1e-9) * unit


@dataclass(frozen=True, slots=True)
class Published:
    """One model. `active` None: none is published. `same_weights` are its other precisions.

    `vision_not_in_config`: the vision tower's parameters as published, where the config that is at
    hand describes only the text model.
    """

    name: str
    total: str
    active: str | None
    source: str
    counts: frozenset[Counts] = frozenset()
    non_embedding: str | None = None
    same_weights: tuple[str, ...] = ()
    vision_not_in_config: str | None = None


def _card(
    name: str,
    total: str,
    active: str | None = None,
    *counts: Counts,
    non_embedding: str | None = None,
    same_weights: tuple[str, ...] = (),
    source: str | None = None,
    vision_not_in_config: str | None = None,
) -> Published:
    """An entry whose source is the model's own card unless another is given."""
    return Published(
        name,
        total,
        active,
        source or HUB + name,
        frozenset(counts),
        non_embedding,
        same_weights,
        vision_not_in_config,
    )


_MTP, _NO_TABLE = Counts.MTP_IN_TOTAL, Counts.EMBEDDING_OUT_OF_ACTIVE
_TEXT_ACTIVE = Counts.VISION_OUT_OF_ACTIVE
_NO_VISION = (Counts.VISION_OUT_OF_TOTAL, Counts.VISION_OUT_OF_ACTIVE)
_NO_HEAD, _CUT_OFF = Counts.HEAD_OUT_OF_ACTIVE, Counts.ACTIVE_CUT_OFF
_V3_REPORT = "https://arxiv.org/abs/2412.19437"
_LLAMA = "meta-llama/Meta-Llama-3.1"
# Table 1.
_KIMI_K3_REPORT = "https://arxiv.org/abs/2607.24653"

QWEN = (
    # Qwen's "non-embedding" leaves out the embedding and the output head.
    _card("Qwen/Qwen3-0.6B", "0.6B", non_embedding="0.44B"),
    _card("Qwen/Qwen3-1.7B", "1.7B", non_embedding="1.4B"),
    _card("Qwen/Qwen3-8B", "8.2B", non_embedding="6.95B"),
    _card(
        "Qwen/Qwen3-32B",
        "32.8B",
        non_embedding="31.2B",
        same_weights=("Qwen/Qwen3-32B-FP8", "Qwen/Qwen3-32B-FP8-Static-PerTensor"),
    ),
    _card(
        "Qwen/Qwen3-30B-A3B",
        "30.5B",
        "3.3B",
        _CUT_OFF,
        non_embedding="29.9B",
        same_weights=("Qwen/Qwen3-30B-A3B-FP8",),
    ),
    _card(
        "Qwen/Qwen3-235B-A22B",
        "235B",
        "22B",
        non_embedding="234B",
        same_weights=("Qwen/Qwen3-235B-A22B-FP8", "nvidia/Qwen3-235B-A22B-NVFP4"),
    ),
    _card("Qwen/Qwen3-Coder-480B-A35B-Instruct", "480B", "35B"),
    # Safetensors totals, vision tower included.
    _card("Qwen/Qwen3-VL-2B-Instruct", "2127.532032M"),
    _card("Qwen/Qwen3-VL-4B-Instruct", "4437.815808M"),
    _card("Qwen/Qwen3-VL-8B-Instruct", "8767.123696M"),
    _card("Qwen/Qwen3-VL-30B-A3B-Instruct", "31070.754032M"),
    # Their cards print the figures under "Language Model".
    _card("Qwen/Qwen3.5-35B-A3B", "35B", "3B", *_NO_VISION),
    _card(
        "Qwen/Qwen3.5-122B-A10B",
        "122B",
        "10B",
        *_NO_VISION,
        same_weights=("nvidia/Qwen3.5-122B-A10B-NVFP4",),
    ),
    _card(
        "Qwen/Qwen3.5-397B-A17B",
        "397B",
        "17B",
        *_NO_VISION,
        same_weights=("nvidia/Qwen3.5-397B-A17B-NVFP4",),
    ),
    # Safetensors totals of Qwen/Qwen3.6-27B and -35B-A3B; the active figure is the card's.
    _card("nvidia/Qwen3.6-27B-NVFP4", "27.781B", None, _MTP, source=HUB + "Qwen/Qwen3.6-27B"),
    _card(
        "nvidia/Qwen3.6-35B-A3B-NVFP4",
        "35.952B",
        "3B",
        _MTP,
        _TEXT_ACTIVE,
        source=HUB + "Qwen/Qwen3.6-35B-A3B",
    ),
)

DEEPSEEK = (
    _card(
        "deepseek-ai/DeepSeek-V2-Lite",
        "15.7B",
        "2.4B",
        _NO_TABLE,
        _CUT_OFF,
        source="https://arxiv.org/abs/2405.04434",
    ),
    _card("deepseek-ai/DeepSeek-V3", "671B", "37B", _NO_TABLE, source=_V3_REPORT),
    _card("deepseek-ai/DeepSeek-R1", "671B", "37B", _NO_TABLE),
    _card(
        "deepseek-ai/DeepSeek-V3.1",
        "671B",
        "37B",
        _NO_TABLE,
        same_weights=("nvidia/DeepSeek-V3.1-NVFP4",),
    ),
    _card(
        "deepseek-ai/DeepSeek-V4-Flash",
        "284B",
        "13B",
        _NO_TABLE,
        same_weights=("nvidia/DeepSeek-V4-Flash-NVFP4", "sgl-project/DeepSeek-V4-Flash-FP8"),
    ),
    _card(
        "deepseek-ai/DeepSeek-V4-Pro",
        "1.6T",
        "49B",
        _NO_TABLE,
        same_weights=("nvidia/DeepSeek-V4-Pro-NVFP4", "sgl-project/DeepSeek-V4-Pro-FP8"),
    ),
)

META_AND_MISTRAL = (
    # Llama 3.1: safetensors totals.
    _card(f"{_LLAMA}-8B", "8.03B", source=HUB + "meta-llama/Llama-3.1-8B"),
    _card(
        f"{_LLAMA}-70B",
        "70.6B",
        source=HUB + "meta-llama/Llama-3.1-70B",
        same_weights=("nvidia/Llama-3.1-70B-Instruct-FP8", "nvidia/Llama-3.3-70B-Instruct-FP8"),
    ),
    _card(
        f"{_LLAMA}-405B",
        "405.85B",
        source=HUB + "meta-llama/Llama-3.1-405B",
        same_weights=("meta-llama/Llama-3.1-405B-Instruct",),
    ),
    # Vision encoder and projector: both safetensors totals exceed the text model by as much.
    _card(
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        "109B",
        "17B",
        _TEXT_ACTIVE,
        vision_not_in_config="0.872B",
    ),
    _card(
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
        "400B",
        "17B",
        _TEXT_ACTIVE,
        vision_not_in_config="0.872B",
    ),
    _card(
        "mistralai/Mixtral-8x7B-v0.1",
        "46.7B",
        "12.9B",
        source="https://mistral.ai/news/mixtral-of-experts",
    ),
    _card(
        "mistralai/Mixtral-8x22B-v0.1",
        "141B",
        "39B",
        source="https://mistral.ai/news/mixtral-8x22b",
    ),
)

NVIDIA = (
    _card("nvidia/Llama-3_3-Nemotron-Super-49B-v1", "49.867B"),
    # 3.2B active without embeddings.
    _card(
        "nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-BF16",
        "31.6B",
        "3.6B",
        source="https://arxiv.org/abs/2512.20848",
        same_weights=("nvidia/NVIDIA-Nemotron-3-Nano-30B-A3B-NVFP4",),
    ),
    # 12.1B active without embeddings.
    _card(
        "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-FP8",
        "120.6B",
        "12.7B",
        source=HUB + "nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-BF16",
        same_weights=("nvidia/NVIDIA-Nemotron-3-Super-120B-A12B-NVFP4",),
    ),
    _card(
        "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16",
        "550B",
        "55B",
        _NO_TABLE,
        same_weights=(
            "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-FP8",
            "nvidia/NVIDIA-Nemotron-3-Ultra-550B-A55B-NVFP4",
        ),
    ),
)

OTHERS = (
    # The model card says that the unembedding is active and the embedding is not.
    _card(
        "openai/gpt-oss-120b",
        "116.83B",
        "5.13B",
        _NO_TABLE,
        source="https://arxiv.org/abs/2508.10925",
    ),
    _card(
        "openai/gpt-oss-20b",
        "20.91B",
        "3.61B",
        _NO_TABLE,
        source="https://arxiv.org/abs/2508.10925",
    ),
    # Its report prints 1.04T (the GLM-4.5 report 1043B): what 61 MoE layers would have. Of the
    # released model's 61 layers the first is dense; this is its safetensors total.
    _card("moonshotai/Kimi-K2-Instruct", "1026.5B", "32B", _NO_TABLE),
    _card(
        "moonshotai/Kimi-K2.5",
        "1T",
        "32B",
        _NO_TABLE,
        _TEXT_ACTIVE,
        same_weights=("nvidia/Kimi-K2.5-NVFP4",),
    ),
    _card("moonshotai/Kimi-K3", "2.78T", "104.2B", _NO_TABLE, _TEXT_ACTIVE, source=_KIMI_K3_REPORT),
    # The GLM-4.5 report, whose table this one continues, leaves embedding and head out.
    _card(
        "zai-org/GLM-5",
        "744B",
        "40B",
        _NO_TABLE,
        _NO_HEAD,
        source="https://arxiv.org/abs/2602.15763",
        same_weights=("zai-org/GLM-5-FP8", "nvidia/GLM-5-NVFP4"),
    ),
    # Safetensors total: layers that reuse another layer's index have no indexer of their own.
    _card("zai-org/GLM-5.2", "753.33B", None, _MTP),
    _card(
        "MiniMaxAI/MiniMax-M2.5",
        "230B",
        "10B",
        _NO_TABLE,
        _NO_HEAD,
        source=HUB + "MiniMaxAI/MiniMax-M2",
        same_weights=("nvidia/MiniMax-M2.5-NVFP4", "MiniMaxAI/MiniMax-M2.7"),
    ),
    _card(
        "MiniMaxAI/MiniMax-M3",
        "428B",
        "23B",
        _NO_TABLE,
        _NO_HEAD,
        _TEXT_ACTIVE,
        _CUT_OFF,
        same_weights=("nvidia/MiniMax-M3-NVFP4",),
    ),
    _card("XiaomiMiMo/MiMo-V2-Flash", "309B", "15B"),
    _card(
        "stepfun-ai/Step-3.7-Flash",
        "198B",
        "11B",
        _NO_TABLE,
        _TEXT_ACTIVE,
        vision_not_in_config="1.8B",
        same_weights=("stepfun-ai/Step-3.7-Flash-FP8",),
    ),
    _card(
        "google/gemma-4-26B-A4B",
        "25.2B",
        "3.8B",
        *_NO_VISION,
        source="https://ai.google.dev/gemma/docs/core/model_card_4",
        same_weights=("nvidia/Gemma-4-26B-A4B-NVFP4",),
    ),
    _card(
        "nvidia/Gemma-4-31B-IT-NVFP4",
        "30.7B",
        None,
        *_NO_VISION,
        source="https://ai.google.dev/gemma/docs/core/model_card_4",
    ),
    _card("HuggingFaceTB/SmolLM2-135M-Instruct", "134.515008M"),
)

PUBLISHED = (*QWEN, *DEEPSEEK, *META_AND_MISTRAL, *NVIDIA, *OTHERS)
