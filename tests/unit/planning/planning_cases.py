"""Models and clusters that the planner's tests share."""

from typing import Any

from rayserve_par.hardware import NodeGroup, gpu_by_name, parse_cluster
from rayserve_par.model import ModelSpec, known_config, known_names, model_spec_from_config
from rayserve_par.planning import Plan, Workload, plan
from rayserve_par.planning.candidate import Need
from rayserve_par.sizing.engine_options import EngineOptions

SMOL = "HuggingFaceTB/SmolLM2-135M-Instruct"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
LLAMA_70B = "nvidia/Llama-3.3-70B-Instruct-FP8"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
QWEN = "Qwen/Qwen3-235B-A22B-FP8"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"
GPT_OSS = "openai/gpt-oss-120b"

MODELS: dict[str, ModelSpec] = {
    name: model_spec_from_config(known_config(name) or {}, name) for name in known_names()
}


def planned(name: str, cluster: str, **asked: Any) -> Plan:
    return plan(MODELS[name], parse_cluster(cluster), **asked)


def need_of(model: ModelSpec, workload: Workload | None = None) -> Need:
    """What `plan` would ask of a layout, with its defaults."""
    served = workload or Workload()
    tokens = max(served.tokens, min(2048, model.max_context_tokens))
    return Need(model, 1.8, tokens, EngineOptions(), served)


def group(gpu: str, nodes: int = 1, gpus_per_node: int | None = None) -> NodeGroup:
    found = gpu_by_name(gpu)
    return NodeGroup("g", found, nodes, gpus_per_node or found.gpus_per_node)


def dense_model(**changes: Any) -> ModelSpec:
    """A small dense model of 8 layers that a test bends."""
    config: dict[str, Any] = {
        "model_type": "llama",
        "num_hidden_layers": 8,
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_attention_heads": 16,
        "num_key_value_heads": 4,
        "vocab_size": 32000,
        "max_position_embeddings": 4096,
    }
    return model_spec_from_config({**config, **changes}, "dense")


def moe_model(**changes: Any) -> ModelSpec:
    """A small MoE model of 8 layers and 16 experts that a test bends."""
    experts = {
        "model_type": "qwen3_moe",
        "num_experts": 16,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 512,
    }
    return dense_model(**{**experts, **changes})
