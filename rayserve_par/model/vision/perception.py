"""The perception encoder of Step 3.7: blocks with layer scales, convolutions, one projection.

    convolutions   3 x 3, width -> 2 width -> 4 width, with biases, whole on every rank
    projector      4 width -> hidden_size of the text, cut by columns

Source: vllm/model_executor/models/{step_vl,step3p7}.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3
_KERNEL = 9
_DEFAULT_MLP_RATIO = 4.0


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projector; `config` is the outer config."""
    vision = config["vision_config"]
    width = integer(vision, name, "width", "hidden_size")
    scales = 0 if vision.get("ls_init_value") is None else 2 * width
    blocks = VisionBlocks(
        count=integer(vision, name, "layers", "num_hidden_layers"),
        hidden_size=width,
        intermediate_size=int(width * vision.get("mlp_ratio", _DEFAULT_MLP_RATIO)),
        norm_values=4 * width + scales,
        attention_size=width,
    )
    side, image = integer(vision, name, "patch_size"), integer(vision, name, "image_size")
    has_class = bool(vision.get("use_cls_token"))
    positions = (image // side) ** 2 + has_class if vision.get("use_abs_posemb", True) else 0
    norms = bool(vision.get("use_ln_pre", True)) + bool(vision.get("use_ln_post", True))
    text, bias = integer(config["text_config"], name, "hidden_size"), config.get("projector_bias")
    whole = Split.WHOLE
    return (
        *linear("vision_model.conv1", width, side**2 * _CHANNELS, whole),
        *values("vision_model.embeddings", (positions + has_class) * width),
        *values("vision_model.norms", 2 * norms * width),
        *blocks.matrices("vision_model.transformer.resblocks"),
        *linear("vision_model.vit_downsampler1", 2 * width, _KERNEL * width, whole, bias=True),
        *linear("vision_model.vit_downsampler2", 4 * width, 2 * _KERNEL * width, whole, bias=True),
        *linear("vit_large_projector", text, 4 * width, Split.COLUMNS, bias=bool(bias)),
    )
