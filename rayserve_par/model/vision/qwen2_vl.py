"""The towers of Qwen2-VL and Qwen2.5-VL: blocks with rotary positions and one patch merger.

              width          MLP                                  norms       output
    Qwen2     embed_dim      mlp_ratio x width, not gated         LayerNorm   hidden_size
    Qwen2.5   hidden_size    intermediate_size, gated             RMSNorm     out_hidden_size

    merger    (m^2 width -> m^2 width -> output) with biases; m = spatial_merge_size

Published configs have the text's fields beside `vision_config` or in `text_config`; fields that
they leave out have the defaults of transformers' config classes.
Source: vllm/model_executor/models/{qwen2_vl,qwen2_5_vl}.py; transformers
configuration_{qwen2_vl,qwen2_5_vl}.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_DEFAULTS: Config = {
    "depth": 32,
    "patch_size": 14,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}
_DEFAULTS_2: Config = {**_DEFAULTS, "embed_dim": 1280, "mlp_ratio": 4}
_CHANNELS = 3


def qwen2_matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of a Qwen2-VL tower; `config` is the outer config."""
    vision = {**_DEFAULTS_2, **config["vision_config"]}
    width = integer(vision, name, "embed_dim")
    blocks = VisionBlocks(
        count=integer(vision, name, "depth"),
        hidden_size=width,
        intermediate_size=int(width * vision["mlp_ratio"]),
        norm_values=4 * width,
        attention_size=width,
    )
    return _tower(vision, name, blocks, norm=2 * width, out=integer(vision, name, "hidden_size"))


def qwen2_5_matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of a Qwen2.5-VL tower; `config` is the outer config."""
    vision = {**_DEFAULTS, **config["vision_config"]}
    width = integer(vision, name, "hidden_size")
    blocks = VisionBlocks(
        count=integer(vision, name, "depth"),
        hidden_size=width,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=2 * width,
        attention_size=width,
        gated=True,
    )
    return _tower(vision, name, blocks, norm=width, out=integer(vision, name, "out_hidden_size"))


def _tower(
    vision: Config, name: str, blocks: VisionBlocks, *, norm: int, out: int
) -> tuple[Matrix, ...]:
    width = blocks.hidden_size
    channels = vision.get("in_channels") or vision.get("in_chans") or _CHANNELS
    patch = integer(vision, name, "patch_size") ** 2 * channels
    patch *= integer(vision, name, "temporal_patch_size")
    merged = integer(vision, name, "spatial_merge_size") ** 2 * width
    return (
        *linear("visual.patch_embed.proj", width, patch, Split.WHOLE),
        *blocks.matrices("visual.blocks"),
        *values("visual.merger.ln_q", norm),
        *linear("visual.merger.mlp.0", merged, merged, Split.COLUMNS, bias=True),
        *linear("visual.merger.mlp.2", out, merged, Split.ROWS, bias=True),
    )
