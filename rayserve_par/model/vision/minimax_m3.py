"""The tower of MiniMax M3: CLIP blocks with rotary positions, a projector and a patch merger.

    projector  hidden_size -> projector_hidden_size -> text hidden_size, with biases
    merger     m^2 text hidden_size -> projector_hidden_size -> text hidden_size, with biases

Source: vllm/models/minimax_m3/common/vision_tower.py (no norm after the last block).
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and both projections; `config` is the outer config."""
    vision = config["vision_config"]
    hidden = integer(vision, name, "hidden_size")
    text = integer(config["text_config"], name, "hidden_size")
    middle = config.get("projector_hidden_size") or text
    compression = vision.get("img_token_compression_config") or {}
    merged = compression.get("spatial_merge_size", 2) ** 2 * text
    patch = integer(vision, name, "patch_size") ** 2 * vision.get("num_channels", _CHANNELS)
    patch *= compression.get("temporal_patch_size", 2)
    blocks = VisionBlocks(
        count=integer(vision, name, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=4 * hidden,
        attention_size=hidden,
    )
    projector, merger = "multi_modal_projector", "patch_merge_mlp"
    return (
        *linear("vision_tower.patch_embedding", hidden, patch, Split.WHOLE),
        *values("vision_tower.pre_layrnorm", 2 * hidden),
        *blocks.matrices("vision_tower.encoder.layers"),
        *linear(f"{projector}.linear_1", middle, hidden, Split.COLUMNS, bias=True),
        *linear(f"{projector}.linear_2", text, middle, Split.ROWS, bias=True),
        *linear(f"{merger}.linear_1", middle, merged, Split.COLUMNS, bias=True),
        *linear(f"{merger}.linear_2", text, middle, Split.ROWS, bias=True),
    )
