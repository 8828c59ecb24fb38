"""Pixtral, the tower of Mistral Small 3: gated blocks without biases, patch merger, projector.

    merger     m^2 hidden_size -> hidden_size, whole on every rank; m = spatial_merge_size
    projector  hidden_size -> text hidden_size -> text hidden_size

Source: vllm/model_executor/models/{pixtral,mistral3}.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projector; `config` is the outer config."""
    vision = config["vision_config"]
    hidden = integer(vision, name, "hidden_size")
    text = integer(config["text_config"], name, "hidden_size")
    blocks = VisionBlocks(
        count=integer(vision, name, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=2 * hidden,
        attention_size=hidden,
        attention_bias=False,
        mlp_bias=False,
        gated=True,
    )
    patch = integer(vision, name, "patch_size") ** 2 * vision.get("num_channels", _CHANNELS)
    merged = integer(config, name, "spatial_merge_size") ** 2 * hidden
    bias, projector = bool(config.get("multimodal_projector_bias")), "multi_modal_projector"
    return (
        *linear("vision_tower.patch_conv", hidden, patch, Split.WHOLE),
        *values("vision_tower.ln_pre", hidden),
        *blocks.matrices("vision_tower.transformer.layers"),
        *values(f"{projector}.norm", hidden),
        *linear(f"{projector}.patch_merger.merging_layer", hidden, merged, Split.WHOLE),
        *linear(f"{projector}.linear_1", text, hidden, Split.COLUMNS, bias=bias),
        *linear(f"{projector}.linear_2", text, text, Split.ROWS, bias=bias),
    )
