"""Pseudo tokens: words cut into pieces of at most four characters.

- tokens(text): every run of non-blank characters in pieces of four; blanks are no tokens.
- A chat is, message by message, one marker token for the role, the content's tokens, one end
  marker, and at last the marker of the assistant. A later turn that repeats an answer as it came
  therefore begins with the tokens of the earlier prompt and its answer, as under a real chat
  template, and finds their blocks in the cache.
- An answer is words of at most four letters, drawn by a generator seeded with the prompt's tokens:
  one token each, the same in every process.
- Block i's name is H(name of block i-1, its tokens), as in vLLM's prefix cache; H is BLAKE2b.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from random import Random

_PIECE = re.compile(r"\S{1,4}")
_END = "<|end|>"
_HASH_BYTES = 8
_WORDS_TEXT = """
able acid aged also area army away baby back ball band bank base bath bear beat been beer bell
belt best bill bird blow blue boat body bomb bond bone book boom born boss both bowl bulk burn
bush busy call calm came camp card care case cash cast cell chat chip city club coal coat code
cold come cook cool cope copy core cost crew crop dark data date dawn days dead deal dean dear
debt deep deny desk dial diet dirt disc disk does done door dose down draw drew drop drug dual
"""
_WORDS = tuple(_WORDS_TEXT.split())


def text_tokens(text: str) -> list[str]:
    """The pseudo tokens of a text."""
    return _PIECE.findall(text)


def chat_tokens(messages: Iterable[tuple[str, str]]) -> list[str]:
    """The pseudo tokens of (role, content) messages and of the answer's beginning."""
    tokens: list[str] = []
    for role, content in messages:
        tokens.append(f"<|{role}|>")
        tokens += text_tokens(content)
        tokens.append(_END)
    tokens.append("<|assistant|>")
    return tokens


def answer_words(prompt: Sequence[str], count: int) -> list[str]:
    """The first `count` tokens of the answer to a prompt."""
    seed = blake2b(" ".join(prompt).encode(), digest_size=_HASH_BYTES).digest()
    return Random(seed).choices(_WORDS, k=count)


def block_names(tokens: Sequence[str], block_tokens: int) -> tuple[bytes, ...]:
    """The chained names of all full blocks of `tokens`."""
    names = []
    name = b""
    for start in range(0, len(tokens) - block_tokens + 1, block_tokens):
        block = " ".join(tokens[start : start + block_tokens]).encode()
        name = blake2b(name + block, digest_size=_HASH_BYTES).digest()
        names.append(name)
    return tuple(names)
