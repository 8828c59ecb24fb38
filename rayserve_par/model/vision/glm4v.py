"""The tower of GLM-4.1V and GLM-4.5V: gated blocks without biases, a convolution, a gated merger.

    blocks       MLPs as wide as out_hidden_size (not intermediate_size)
    downsample   m x m convolution, hidden_size -> out_hidden_size, with bias; m =
                 spatial_merge_size; whole on every rank
    merger       out_hidden_size -> out_hidden_size, then a gated MLP of intermediate_size

Source: vllm/model_executor/models/glm4_1v.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower; `config` is the outer config."""
    vision = config["vision_config"]
    hidden, out = (integer(vision, name, f) for f in ("hidden_size", "out_hidden_size"))
    blocks = VisionBlocks(
        count=integer(vision, name, "depth"),
        hidden_size=hidden,
        intermediate_size=out,
        norm_values=2 * hidden,
        attention_size=hidden,
        attention_bias=False,
        mlp_bias=False,
        gated=True,
    )
    side = integer(vision, name, "patch_size")
    patch = side**2 * vision.get("in_channels", _CHANNELS)
    patch *= integer(vision, name, "temporal_patch_size")
    positions = (integer(vision, name, "image_size") // side) ** 2
    merged = integer(vision, name, "spatial_merge_size") ** 2 * hidden
    inner, whole = integer(vision, name, "intermediate_size"), Split.WHOLE
    return (
        *linear("visual.patch_embed.proj", hidden, patch, whole, bias=True),
        *values("visual.embeddings.position_embedding", positions * hidden),
        *values("visual.layernorms", 2 * hidden),
        *blocks.matrices("visual.blocks"),
        *linear("visual.downsample", out, merged, whole, bias=True),
        *linear("visual.merger.proj", out, out, Split.COLUMNS),
        *values("visual.merger.post_projection_norm", 2 * out),
        *linear("visual.merger.gate_up_proj", inner, out, Split.COLUMNS, 2),
        *linear("visual.merger.down_proj", out, inner, Split.ROWS),
    )
