"""The tower of Llama 4: blocks with biases, a pixel-shuffle MLP, one projection.

    patches    (image_size / patch_size)^2 + 1 positions; unfolded patches through one matrix
    adapter    intermediate_size -> projector_input_dim -> projector_output_dim
    projector  vision_output_dim -> hidden_size of the text, cut by columns

A config without `vision_config` (abridged ones) means the tower that Scout and Maverick share.
Source: vllm/model_executor/models/mllama4.py; the sizes,
https://huggingface.co/meta-llama/Llama-4-Scout-17B-16E-Instruct/blob/main/config.json.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_PUBLISHED = {
    "hidden_size": 1408,
    "num_hidden_layers": 34,
    "intermediate_size": 5632,
    "image_size": 336,
    "patch_size": 14,
    "num_channels": 3,
    "projector_input_dim": 4096,
    "projector_output_dim": 4096,
    "vision_output_dim": 4096,
}


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projector; `config` is the outer config."""
    vision = config.get("vision_config") or _PUBLISHED
    hidden, inner = integer(vision, name, "hidden_size"), integer(vision, name, "intermediate_size")
    side = integer(vision, name, "patch_size")
    positions = (integer(vision, name, "image_size") // side) ** 2 + 1
    blocks = VisionBlocks(
        count=integer(vision, name, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=inner,
        norm_values=4 * hidden,
        attention_size=hidden,
    )
    patch = side**2 * integer(vision, name, "num_channels")
    middle = integer(vision, name, "projector_input_dim")
    adapted = integer(vision, name, "projector_output_dim")
    text = integer(config["text_config"], name, "hidden_size")
    out = integer(vision, name, "vision_output_dim")
    return (
        *linear("vision_model.patch_embedding.linear", hidden, patch, Split.COLUMNS),
        *values("vision_model.embeddings", (positions + 1) * hidden),
        *values("vision_model.layernorms", 4 * hidden),
        *blocks.matrices("vision_model.model.layers"),
        *linear("vision_model.vision_adapter.mlp.fc1", middle, inner, Split.COLUMNS),
        *linear("vision_model.vision_adapter.mlp.fc2", adapted, middle, Split.ROWS),
        *linear("multi_modal_projector.linear_1", text, out, Split.COLUMNS),
    )
