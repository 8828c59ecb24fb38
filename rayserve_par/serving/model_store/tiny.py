"""Tiny models with random weights, for layouts that SmolLM2's nine heads do not allow.

Weights are drawn with a large spread so that the next token is decided by a wide margin: two
layouts that add in a different order then still agree on every greedy token.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

HIDDEN = 256
LAYERS = 4
HEADS = 8
KV_HEADS = 4
EXPERTS = 8
_SEED = 0
_SPREAD = 0.2
# Text the byte-level tokenizer learns a few merges from; any text does.
_TOKENIZER_TEXT = (
    "A pipeline stage holds consecutive layers; a tensor parallel group splits every layer; "
    "experts are spread over the ranks of an expert parallel group. Tokens go in, tokens come out."
)
_CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def prepare_tiny_llama(folder: Path) -> None:
    """Write a random Llama of about 3M parameters and its tokenizer into `folder`."""
    from transformers import LlamaConfig, LlamaForCausalLM

    tokenizer = _write_tokenizer(folder)
    config = LlamaConfig(intermediate_size=512, **_common(tokenizer))
    _write_model(LlamaForCausalLM, config, folder)


def prepare_tiny_moe(folder: Path) -> None:
    """Write a random Qwen3-MoE with 8 experts, 2 of them per token, into `folder`."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    tokenizer = _write_tokenizer(folder)
    config = Qwen3MoeConfig(
        intermediate_size=512,
        moe_intermediate_size=128,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        decoder_sparse_step=1,
        norm_topk_prob=True,
        **_common(tokenizer),
    )
    _write_model(Qwen3MoeForCausalLM, config, folder)


def _common(tokenizer: Any) -> dict[str, Any]:
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "num_key_value_heads": KV_HEADS,
        "head_dim": HIDDEN // HEADS,
        "max_position_embeddings": 2048,
        "initializer_range": _SPREAD,
        "tie_word_embeddings": False,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }


def _write_tokenizer(folder: Path) -> Any:
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320,
        special_tokens=["<|begin|>", "<|end|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator([_TOKENIZER_TEXT], trainer)
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, bos_token="<|begin|>", eos_token="<|end|>"
    )
    tokenizer.chat_template = _CHAT_TEMPLATE
    tokenizer.save_pretrained(folder)
    return tokenizer


def _write_model(model_class: Any, config: Any, folder: Path) -> None:
    import torch

    torch.manual_seed(_SEED)
    model = model_class(config).to(torch.float32)
    model.save_pretrained(folder)
