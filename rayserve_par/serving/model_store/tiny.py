"""Tiny models with random weights, for layouts that SmolLM2's nine heads do not allow.

Weights are drawn with a large spread so that the next token is decided by a wide margin: two
layouts that add in a different order then still agree on every greedy token.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_SEED = 0
_VOCABULARY = 320
_BEGIN, _END = "<|begin|>", "<|end|>"

_COMMON: dict[str, Any] = {
    "vocab_size": _VOCABULARY,
    "hidden_size": 256,
    "num_hidden_layers": 4,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "head_dim": 32,
    "intermediate_size": 512,
    "max_position_embeddings": 2048,
    "initializer_range": 0.2,
    "tie_word_embeddings": False,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "torch_dtype": "float32",
}
TINY_LLAMA_CONFIG: dict[str, Any] = {**_COMMON, "model_type": "llama"}
TINY_MOE_CONFIG: dict[str, Any] = {
    **_COMMON,
    "model_type": "qwen3_moe",
    "moe_intermediate_size": 128,
    "num_experts": 8,
    "num_experts_per_tok": 2,
    "decoder_sparse_step": 1,
    "norm_topk_prob": True,
}
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

    _write_tokenizer(folder)
    _write_model(LlamaForCausalLM, LlamaConfig(**_without_type(TINY_LLAMA_CONFIG)), folder)


def prepare_tiny_moe(folder: Path) -> None:
    """Write a random Qwen3-MoE with 8 experts, 2 of them per token, into `folder`."""
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    _write_tokenizer(folder)
    _write_model(Qwen3MoeForCausalLM, Qwen3MoeConfig(**_without_type(TINY_MOE_CONFIG)), folder)


def _without_type(config: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in config.items() if key != "model_type"}


def _write_tokenizer(folder: Path) -> None:
    save_tokenizer(learn_tokenizer([_TOKENIZER_TEXT], _VOCABULARY), folder, _VOCABULARY)


def learn_tokenizer(texts: Sequence[str], most_tokens: int) -> Tokenizer:
    """A byte-level BPE of at most `most_tokens` tokens, begin and end included, for any text."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=most_tokens,
        special_tokens=[_BEGIN, _END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(texts, trainer)
    return backend


def save_tokenizer(backend: Tokenizer, folder: Path, size: int) -> None:
    """Write a tokenizer of `size` tokens, with a chat template, as transformers reads it.

    Raises:
        RuntimeError: it has another number of tokens.
    """
    from transformers import PreTrainedTokenizerFast

    tokenizer = PreTrainedTokenizerFast(tokenizer_object=backend, bos_token=_BEGIN, eos_token=_END)
    tokenizer.chat_template = _CHAT_TEMPLATE
    if len(tokenizer) != size:
        raise RuntimeError(f"the tokenizer has {len(tokenizer)} tokens, the model {size}")
    tokenizer.save_pretrained(folder)


def _write_model(model_class: Any, config: Any, folder: Path) -> None:
    import torch

    torch.manual_seed(_SEED)
    model = model_class(config).to(torch.float32)
    model.save_pretrained(folder)
