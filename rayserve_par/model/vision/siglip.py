"""SigLIP, the tower of Gemma 3: blocks with biases, a table of positions, one projection.

    positions   (image_size / patch_size)^2
    projection  hidden_size x hidden_size of the text, a norm before it, whole on every rank

Left out: the attention pooling head of other SigLIP models, which vLLM does not load here.
Source: vllm/model_executor/models/{siglip,gemma3_mm}.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projection; `config` is the outer config."""
    vision = config["vision_config"]
    hidden = integer(vision, name, "hidden_size")
    text = integer(config["text_config"], name, "hidden_size")
    side = integer(vision, name, "patch_size")
    positions = (integer(vision, name, "image_size") // side) ** 2
    blocks = VisionBlocks(
        count=integer(vision, name, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=4 * hidden,
        attention_size=hidden,
    )
    prefix, projector = "vision_tower.vision_model", "multi_modal_projector"
    patch = side**2 * vision.get("num_channels", _CHANNELS)
    return (
        *linear(f"{prefix}.embeddings.patch_embedding", hidden, patch, Split.WHOLE, bias=True),
        *values(f"{prefix}.embeddings.position_embedding", positions * hidden),
        *blocks.matrices(f"{prefix}.encoder.layers"),
        *values(f"{prefix}.post_layernorm", 2 * hidden),
        *linear(f"{projector}.mm_input_projection", text, hidden, Split.WHOLE),
        *values(f"{projector}.mm_soft_emb_norm", hidden),
    )
