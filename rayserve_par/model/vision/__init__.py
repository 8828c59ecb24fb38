"""Vision towers and their projectors, by the outer model type.

A model has a tower when its config has a `vision_config`, or (abridged configs of Llama 4) when its
architecture generates from images.
"""

from rayserve_par.errors import RefusedError
from rayserve_par.model.matrix import Matrix
from rayserve_par.model.vision import (
    gemma4,
    glm4v,
    intern_vit,
    llama4,
    minimax_m3,
    moonvit,
    perception,
    pixtral,
    qwen2_vl,
    qwen3_vl,
    siglip,
)
from rayserve_par.model.vision.tower import Config, TowerReader

_TOWERS: dict[str, TowerReader] = {
    "gemma3": siglip.matrices,
    "gemma4": gemma4.matrices,
    "glm4v": glm4v.matrices,
    "glm4v_moe": glm4v.matrices,
    "internvl_chat": intern_vit.matrices,
    "kimi_k25": moonvit.matrices,
    "kimi_k3": moonvit.matrices,
    "llama4": llama4.matrices,
    "minimax_m3_vl": minimax_m3.matrices,
    "mistral3": pixtral.matrices,
    "qwen2_5_vl": qwen2_vl.qwen2_5_matrices,
    "qwen2_vl": qwen2_vl.qwen2_matrices,
    "qwen3_5": qwen3_vl.matrices,
    "qwen3_5_moe": qwen3_vl.matrices,
    "qwen3_vl": qwen3_vl.matrices,
    "qwen3_vl_moe": qwen3_vl.matrices,
    "step3p7": perception.matrices,
}
_GENERATES_FROM_IMAGES = "ForConditionalGeneration"


def vision_matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the vision tower and its projector; none where the model has no tower.

    `config` is the outer config (the one with `vision_config`).
    """
    model_type = str(config.get("model_type"))
    architectures = config.get("architectures") or ()
    from_images = any(_GENERATES_FROM_IMAGES in architecture for architecture in architectures)
    if not config.get("vision_config") and not (model_type == "llama4" and from_images):
        return ()
    if model_type not in _TOWERS:
        raise RefusedError(
            f"{name}: the vision tower of a {model_type!r} is not known; known are those of "
            f"{', '.join(sorted(_TOWERS))}. Give --weights-gib and the KV facts instead."
        )
    return _TOWERS[model_type](config, name)
