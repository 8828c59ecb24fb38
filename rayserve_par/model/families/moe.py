"""Mixture-of-experts transformers with grouped-query attention.

Source: the file of the same name in vllm/model_executor/models (qwen2_moe, qwen3_moe, mixtral,
minimax_m2, gpt_oss, glm4_moe, ernie45_moe, granitemoeshared, phimoe, olmoe, bailing_moe, hy_v3,
exaone_moe), and in transformers/models for hunyuan_v1_moe, dots1 and solar_open.
"""

from rayserve_par.model.families.attention import GqaTraits
from rayserve_par.model.families.experts import MoeTraits
from rayserve_par.model.families.stack import Stack

_LOCAL = ("num_local_experts",)
_ROUTED = ("n_routed_experts", "num_local_experts")
# transformers 5 saves what 4 called num_experts as num_local_experts.
_NUM = ("num_experts", "num_local_experts")

MIXTRAL = Stack(
    GqaTraits(), MoeTraits(_LOCAL, width=("intermediate_size",), name="block_sparse_moe")
)
MINIMAX_M2 = Stack(
    GqaTraits(output_bias=False, qk_norm_whole=True),
    MoeTraits(
        _LOCAL,
        width=("intermediate_size",),
        router_bias_field="use_routing_bias",
        name="block_sparse_moe",
    ),
    mtp_fields=("num_mtp_modules",),
)
GPT_OSS = Stack(
    GqaTraits(qkv_bias=True, output_bias=True, sinks=True, period=2),
    MoeTraits(
        _LOCAL,
        chosen=("num_experts_per_tok", "experts_per_token"),
        width=("intermediate_size",),
        router_bias=True,
        expert_bias=True,
        router_name="router",
    ),
)
QWEN2_MOE = Stack(
    GqaTraits(qkv_bias=True, output_bias=False),
    MoeTraits(
        _NUM,
        shared_width="shared_expert_intermediate_size",
        shared_gate=True,
        shared_name="shared_expert",
    ),
)
QWEN3_MOE = Stack(GqaTraits(qk_norm=True), MoeTraits(_NUM))
GLM4_MOE = Stack(
    GqaTraits(output_bias=False, qk_norm="config"),
    MoeTraits(_ROUTED, shared_count="n_shared_experts", router_bias=True),
)
DOTS1 = Stack(
    GqaTraits(qk_norm=True),
    MoeTraits(_ROUTED, shared_count="n_shared_experts", router_bias=True),
)
SOLAR_OPEN = Stack(
    GqaTraits(), MoeTraits(_ROUTED, shared_count="n_shared_experts", router_bias=True)
)
ERNIE_MOE = Stack(
    GqaTraits(bias_field="use_bias", output_bias=False),
    MoeTraits(
        ("moe_num_experts", "num_experts"),
        chosen=("moe_k", "num_experts_per_tok"),
        shared_count="moe_num_shared_experts",
        router_bias=True,
    ),
)
GRANITE_MOE = Stack(
    GqaTraits(qkv_bias=False, output_bias=False),
    MoeTraits(
        _LOCAL,
        width=("intermediate_size",),
        shared_width="shared_intermediate_size",
        name="block_sparse_moe",
    ),
)
PHIMOE = Stack(
    GqaTraits(qkv_bias=True, output_bias=True),
    MoeTraits(_LOCAL, width=("intermediate_size",), name="block_sparse_moe"),
    norms=4,
)
OLMOE = Stack(
    GqaTraits(qkv_bias=False, output_bias=False, qk_norm_whole=True),
    MoeTraits(_NUM, width=("intermediate_size",)),
)
BAILING = Stack(
    GqaTraits(bias_field="use_qkv_bias", output_bias=False, qk_norm="config"),
    MoeTraits(
        ("num_experts",),
        shared_count="num_shared_experts",
        shared_each=("moe_shared_expert_intermediate_size",),
        router_bias_field="moe_router_enable_expert_bias",
    ),
)
HY_V3 = Stack(
    GqaTraits(qkv_bias=False, output_bias=False, qk_norm=True),
    MoeTraits(
        ("num_experts",),
        width=("expert_hidden_dim", "moe_intermediate_size"),
        shared_count="num_shared_experts",
        router_bias=True,
        shared_name="shared_mlp",
    ),
)
HUNYUAN_MOE = Stack(
    GqaTraits(qk_norm=True),
    MoeTraits(
        ("num_experts",),
        chosen=("moe_topk", "num_experts_per_tok"),
        width=("moe_intermediate_size", "intermediate_size"),
        shared_count="num_shared_expert",
        shared_each=("intermediate_size",),
        shared_name="shared_mlp",
    ),
)
EXAONE_MOE = Stack(
    GqaTraits(qk_norm=True, period=4),
    MoeTraits(("num_experts",), shared_count="num_shared_experts", router_bias=True),
)
