"""Models of a published shape with random weights: real speed and memory, no meaning in the text.

Only the config and a tokenizer are written; vLLM draws the weights itself (`load_format: dummy`).
The tokenizer knows each word of the load as one token and spells every other id as a word of its
own, so that any token the random model picks becomes text of a usual length.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from rayserve_par.serving.model_store.tiny import learn_tokenizer, save_tokenizer

_LEARNT_TOKENS = 1024
# Of the configs that the models' authors publish.
SHAPES: dict[str, dict[str, Any]] = {
    "llama-3.1-8b-shape": {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_size": 4096,
        "intermediate_size": 14336,
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 8192,
        "rms_norm_eps": 1e-5,
        "rope_theta": 500000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "vocab_size": 128256,
    },
    "qwen3-0.6b-shape": {
        "architectures": ["Qwen3ForCausalLM"],
        "model_type": "qwen3",
        "hidden_size": 1024,
        "intermediate_size": 3072,
        "num_hidden_layers": 28,
        "num_attention_heads": 16,
        "num_key_value_heads": 8,
        "head_dim": 128,
        "max_position_embeddings": 40960,
        "rms_norm_eps": 1e-6,
        "rope_theta": 1000000.0,
        "hidden_act": "silu",
        "tie_word_embeddings": True,
        "vocab_size": 151936,
    },
}


def shape_folder(name: str, words: Sequence[str], parent: Path) -> Path:
    """Write the model `name` of SHAPES below `parent`, unless it is there; returns its folder."""
    folder = parent / name
    parent.mkdir(parents=True, exist_ok=True)
    with FileLock(parent / f"{name}.lock"):
        if not (folder / "config.json").is_file():
            folder.mkdir(exist_ok=True)
            config = {"bos_token_id": 0, "eos_token_id": 1, "torch_dtype": "bfloat16"}
            _write_tokenizer(folder, words, SHAPES[name]["vocab_size"])
            (folder / "config.json").write_text(
                json.dumps({**SHAPES[name], **config}, indent=2), encoding="utf-8"
            )
    return folder


def _write_tokenizer(folder: Path, words: Sequence[str], size: int) -> None:
    from tokenizers import Tokenizer, pre_tokenizers

    learnt = learn_tokenizer([" ".join(words), " " + " ".join(words)], _LEARNT_TOKENS)
    document = json.loads(learnt.to_str())
    vocabulary = document["model"]["vocab"]
    space = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(" ")[0][0]
    vocabulary.update({f"{space}w{n}": n for n in range(len(vocabulary), size)})
    save_tokenizer(Tokenizer.from_str(json.dumps(document)), folder, size)
