"""The tower of Qwen3-VL and Qwen3.5: blocks, one patch merger, one more per deepstack layer.

    merger   (m^2 d -> m^2 d -> out) with biases and a norm; m = spatial_merge_size, d = hidden_size
    norm     over d, in the deepstack mergers over m^2 d

Source: vllm/model_executor/models/qwen3_vl.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower; `config` is the outer config."""
    vision = config["vision_config"]
    hidden, merge = (
        integer(vision, name, "hidden_size"),
        integer(vision, name, "spatial_merge_size"),
    )
    patch = integer(vision, name, "patch_size") ** 2 * integer(vision, name, "in_channels")
    frames = integer(vision, name, "temporal_patch_size")
    blocks = VisionBlocks(
        count=integer(vision, name, "depth"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=4 * hidden,
        attention_size=hidden,
    )
    merged, out = merge**2 * hidden, integer(vision, name, "out_hidden_size")
    deep = len(vision.get("deepstack_visual_indexes") or ())
    mergers = 1 + deep
    return (
        *linear("patch_embed.proj", hidden, patch * frames, Split.WHOLE, bias=True),
        *values("pos_embed", hidden * integer(vision, name, "num_position_embeddings")),
        *blocks.matrices("blocks"),
        *linear("merger.linear_fc1", merged, merged, Split.COLUMNS, mergers, bias=True),
        *linear("merger.linear_fc2", out, merged, Split.ROWS, mergers, bias=True),
        *values("merger.norm", 2 * hidden),
        *(values("deepstack_merger_list.norm", 2 * merged, deep) if deep else ()),
    )
