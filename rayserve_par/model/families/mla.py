"""Multi-head latent attention: DeepSeek V2 to V3.2, Kimi-K2, GLM-5, GLM-4.7-Flash.

Source: vllm/model_executor/models/{deepseek_v2,glm4_moe_lite,AXK1}.py.
"""

from rayserve_par.model.families.attention import mla
from rayserve_par.model.families.experts import MoeTraits
from rayserve_par.model.families.family import Config
from rayserve_par.model.families.stack import Stack
from rayserve_par.model.ffn import Ffn

_PLAIN = MoeTraits(("n_routed_experts", "num_local_experts"), shared_count="n_shared_experts")
_CORRECTED = MoeTraits(
    ("n_routed_experts", "num_local_experts"), shared_count="n_shared_experts", router_bias=True
)


def _experts(config: Config, name: str) -> tuple[Ffn, ...]:
    # DeepSeek-V3 routes with a learned correction per expert.
    corrected = config.get("topk_method") == "noaux_tc"
    return (_CORRECTED if corrected else _PLAIN)(config, name)


DEEPSEEK = Stack(mla, _experts)
CORRECTED = Stack(mla, _CORRECTED)
