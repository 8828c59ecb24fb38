"""InternViT, the tower of InternVL: blocks with layer scales, a pixel-shuffle MLP.

    positions   (image_size / patch_size)^2 + 1, and a class token
    projector   norm over r^2 hidden_size, r^2 hidden_size -> text -> text with biases, whole on
                every rank; r = 1 / downsample_ratio
    blocks      those up to `select_layer` (-1: all)

Source: vllm/model_executor/models/{intern_vit,internvl}.py.
"""

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projector; `config` is the outer config."""
    vision = config["vision_config"]
    hidden = integer(vision, name, "hidden_size")
    norm = (1 if vision.get("norm_type") == "rms_norm" else 2) * hidden
    is_normed = bool(vision.get("qk_normalization"))
    blocks = VisionBlocks(
        count=_blocks(config, name),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=2 * norm + 2 * hidden + (2 * hidden if is_normed else 0),
        attention_size=hidden,
        attention_bias=bool(vision.get("qkv_bias")),
        output_bias=True,
    )
    side = integer(vision, name, "patch_size")
    positions = (integer(vision, name, "image_size") // side) ** 2 + 1
    ratio = round(1 / config.get("downsample_ratio", 0.5))
    out = integer(config["llm_config"], name, "hidden_size")
    merged, whole = ratio**2 * hidden, Split.WHOLE
    patch = side**2 * _CHANNELS
    return (
        *linear("vision_model.embeddings.patch_embedding", hidden, patch, whole, bias=True),
        *values("vision_model.embeddings", (positions + 1) * hidden),
        *blocks.matrices("vision_model.encoder.layers"),
        *values("mlp1.0", 2 * merged),
        *linear("mlp1.1", out, merged, whole, bias=True),
        *linear("mlp1.3", out, out, whole, bias=True),
    )


def _blocks(config: Config, name: str) -> int:
    count = integer(config["vision_config"], name, "num_hidden_layers")
    selected = config.get("select_layer", -1)
    if not isinstance(selected, int) or not -count <= selected < count:
        raise RefusedError(
            f"{name}: the layer of the tower that is used is {selected!r}; it must be a whole "
            f"number from -{count} to {count - 1}. Check config.json."
        )
    return selected % count + 1
