"""What a type's config class fills in where published configs leave a field out.

Source: the configuration_*.py of each type in transformers 5. Only fields that published
configs leave out are here; a field without a default is refused where it is missing.
"""

from rayserve_par.model.families.family import Config

_TIED: Config = {"tie_word_embeddings": True}
_GEMMA3: Config = {
    "vocab_size": 262208,
    "hidden_size": 2304,
    "intermediate_size": 9216,
    "num_hidden_layers": 26,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 256,
    "max_position_embeddings": 131072,
    "sliding_window": 4096,
    "tie_word_embeddings": True,
}

DEFAULTS: dict[str, Config] = {
    "gemma": {"head_dim": 256, "tie_word_embeddings": True},
    "gemma2": {"head_dim": 256, "sliding_window": 4096, "tie_word_embeddings": True},
    "gemma3_text": _GEMMA3,
    "cohere": _TIED,
    "cohere2": _TIED,
    "ernie4_5": _TIED,
    "ernie4_5_moe": _TIED,
    "hunyuan_v1_moe": {"num_shared_expert": 1},
    "glm": {"head_dim": 128, "attention_bias": True},
    "glm4": {"head_dim": 128, "attention_bias": True},
    "seed_oss": {"attention_bias": True},
    "smollm3": _TIED,
    "starcoder2": {"tie_word_embeddings": True, "use_bias": True},
    "qwen3": {"head_dim": 128},
    "qwen3_5_text": {"head_dim": 256},
    "qwen3_5_moe_text": {"head_dim": 256},
    "qwen3_next": {"head_dim": 256},
    "qwen3_vl_text": {"head_dim": 128},
    "qwen3_vl_moe_text": {"head_dim": 128},
    "solar_open": {"head_dim": 128},
    "glm4_moe": {"max_position_embeddings": 131072},
}
