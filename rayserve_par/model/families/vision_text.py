"""Text models inside vision models that are another family's under a name of their own.

    qwen2_vl, qwen2_5_vl    Qwen2; older configs have the text's fields in the outer config
    glm4v_text              GLM-4 with query, key and value biases
    glm4v_moe_text          GLM-4.5 with biases unless `attention_bias` is false

Source: vllm/model_executor/models/{qwen2_vl,qwen2_5_vl,glm4_1v}.py; transformers
configuration_glm4v_moe.py.
"""

from rayserve_par.model.families.attention import GqaTraits
from rayserve_par.model.families.dense import MLP, QWEN2
from rayserve_par.model.families.family import Config, Reader, Skeleton
from rayserve_par.model.families.moe import GLM4_MOE
from rayserve_par.model.families.stack import Stack


def _glm4v_moe(config: Config, name: str) -> Skeleton:
    return GLM4_MOE({"attention_bias": True, **config}, name)


READERS: dict[str, Reader] = {
    "glm4v_moe_text": _glm4v_moe,
    "glm4v_text": Stack(GqaTraits(qkv_bias=True, output_bias=False), MLP, norms=4),
    "qwen2_5_vl": QWEN2,
    "qwen2_5_vl_text": QWEN2,
    "qwen2_vl": QWEN2,
    "qwen2_vl_text": QWEN2,
}
