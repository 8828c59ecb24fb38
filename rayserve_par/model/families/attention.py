"""The attention of every layer, from the config's fields and the family's traits.

Traits are what the model's code has and its config does not say.

Windows, as vLLM applies them: none where `use_sliding_window` is false or there is no
`sliding_window`; by `layer_types` where the config has them; all layers but every `period`-th
(`sliding_window_pattern` of the config, else the family's own); else every layer.

The sparse index of layer n is shared (taken over from a layer before it) where
`indexer_types[n]` is "shared" or `index_topk_pattern[n]` is "S", else where
max(n - index_skip_topk_offset + 1, 0) mod index_topk_freq is not 0.
Source: `DeepseekV2MLAAttention` in vllm/model_executor/models/deepseek_v2.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from rayserve_par.model.families.family import Config
from rayserve_par.model.families.fields import gqa, integer, layer_kinds, num_layers
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention, SparseIndex

Trait = bool | Literal["config"]


@dataclass(frozen=True, slots=True)
class GqaTraits:
    """Grouped-query attention of a family; called, it reads the mixers of all layers.

    "config" takes a bias from `bias_field`, and norms from `use_qk_norm`. `window_extra` is added
    to the config's window (Cohere does not count the token itself).
    """

    qkv_bias: Trait = "config"
    output_bias: Trait = "config"
    bias_field: str = "attention_bias"
    qk_norm: Trait = False
    qk_norm_whole: bool = False
    sinks: bool = False
    period: int | None = None
    window_extra: int = 0

    def __call__(self, config: Config, name: str) -> tuple[GqaAttention, ...]:
        """The attention of every layer."""
        plain = self.read(config, name)
        by_window: dict[int | None, GqaAttention] = {None: plain}
        for window in windows(config, name, self.period):
            if window is not None and window not in by_window:
                by_window[window] = replace(plain, window_tokens=window + self.window_extra)
        return tuple(by_window[window] for window in windows(config, name, self.period))

    def read(self, config: Config, name: str) -> GqaAttention:
        """The attention of a layer without a window."""
        biased = bool(config.get(self.bias_field))
        normed = bool(config.get("use_qk_norm"))
        return gqa(
            config,
            name,
            qkv_bias=biased if self.qkv_bias == "config" else self.qkv_bias,
            output_bias=biased if self.output_bias == "config" else self.output_bias,
            qk_norm=normed if self.qk_norm == "config" else self.qk_norm,
            qk_norm_whole=self.qk_norm_whole,
            sinks=self.sinks,
        )


def windows(config: Config, name: str, period: int | None = None) -> tuple[int | None, ...]:
    """The sliding window of every layer."""
    count = num_layers(config, name)
    window = config.get("sliding_window")
    if not window or config.get("use_sliding_window") is False:
        return (None,) * count
    kinds = layer_kinds(config, name)
    if kinds:
        return tuple(window if "sliding" in kind else None for kind in kinds)
    pattern = config.get("sliding_window_pattern") or config.get("_sliding_window_pattern")
    every = len(pattern) if isinstance(pattern, str) else pattern or period
    return tuple(None if every and (n + 1) % every == 0 else window for n in range(count))


def mla(config: Config, name: str) -> tuple[MlaAttention, ...]:
    """The MLA of every layer, with its sparse index where the config has `index_topk`."""
    plain = MlaAttention(
        num_heads=integer(config, name, "num_attention_heads"),
        q_lora_rank=config.get("q_lora_rank"),
        kv_lora_rank=integer(config, name, "kv_lora_rank"),
        qk_nope_head_dim=integer(config, name, "qk_nope_head_dim"),
        qk_rope_head_dim=integer(config, name, "qk_rope_head_dim"),
        v_head_dim=integer(config, name, "v_head_dim"),
    )
    if config.get("index_topk") is None:
        return (plain,) * num_layers(config, name)
    own = SparseIndex(
        num_heads=integer(config, name, "index_n_heads"),
        head_dim=integer(config, name, "index_head_dim"),
        topk=integer(config, name, "index_topk"),
    )
    alone = replace(plain, index=own)
    shared = replace(plain, index=replace(own, is_shared=True))
    return tuple(shared if is_shared else alone for is_shared in _shared_index(config, name))


def _shared_index(config: Config, name: str) -> Iterator[bool]:
    kinds, pattern = config.get("indexer_types"), config.get("index_topk_pattern")
    frequency = config.get("index_topk_freq") or 1
    offset = config.get("index_skip_topk_offset")
    start = 2 if offset is None else offset
    for layer in range(num_layers(config, name)):
        if kinds and layer < len(kinds):
            yield kinds[layer] == "shared"
        elif pattern and layer < len(pattern):
            yield pattern[layer] == "S"
        else:
            yield max(layer - start + 1, 0) % frequency != 0
