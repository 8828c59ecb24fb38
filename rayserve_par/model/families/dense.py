"""Dense transformers with grouped-query attention.

Source: the file of the same name in vllm/model_executor/models (llama, mistral, qwen2, qwen3,
phi3, gemma, gemma2, gemma3, commandr, glm4, granite, exaone4, nemotron, solar, stablelm, apertus,
hyperclovax, mimo), and in transformers/models for seed_oss, hunyuan_v1_dense, smollm3, olmo2,
olmo3, ernie4_5, glm, starcoder2 and arcee.
"""

from rayserve_par.model.families.attention import GqaTraits
from rayserve_par.model.families.experts import DenseTraits
from rayserve_par.model.families.stack import Stack

MLP = DenseTraits()
NO_BIAS = GqaTraits(qkv_bias=False, output_bias=False)

LLAMA = Stack(GqaTraits(), MLP)
PHI3 = Stack(NO_BIAS, MLP)
QWEN2 = Stack(GqaTraits(qkv_bias=True, output_bias=False), MLP)
QWEN3 = Stack(GqaTraits(qk_norm=True), MLP)
GLM = Stack(GqaTraits(output_bias=False), MLP)
GLM4 = Stack(GqaTraits(output_bias=False), MLP, norms=4)
GEMMA = Stack(GqaTraits(), MLP)
GEMMA2 = Stack(GqaTraits(period=2), MLP, norms=4)
GEMMA3 = Stack(GqaTraits(qk_norm=True, period=6), MLP, norms=4)
COHERE = Stack(GqaTraits(qkv_bias=False, output_bias=False, qk_norm="config"), MLP, norms=1)
COHERE2 = Stack(
    GqaTraits(qkv_bias=False, output_bias=False, period=4, window_extra=1), MLP, norms=1
)
OLMO2 = Stack(GqaTraits(qk_norm_whole=True, period=4), MLP)
EXAONE4 = Stack(GqaTraits(qk_norm=True, period=4), MLP)
ERNIE = Stack(GqaTraits(bias_field="use_bias"), DenseTraits(bias_field="use_bias"))
NEMOTRON = Stack(GqaTraits(), DenseTraits(gated=False), norms=4)
APERTUS = Stack(GqaTraits(qk_norm=True), DenseTraits(gated=False))
STABLELM = Stack(GqaTraits(bias_field="use_qkv_bias", output_bias=False), MLP, norms=4)
STARCODER2 = Stack(
    GqaTraits(bias_field="use_bias"), DenseTraits(gated=False, bias_field="use_bias"), norms=4
)
ARCEE = Stack(GqaTraits(), DenseTraits(gated=False))
SEED_OSS = Stack(GqaTraits(output_bias=False), MLP)
