"""How long the mock engine takes, and how much it holds.

A step that runs n sequences and computes p prompt tokens lasts

    T = step_base_seconds + n * step_seconds_per_sequence + p / prefill_tokens_per_second

which is the shape of a continuous-batching engine with chunked prefill: a step reads the weights
once (the base), reads each sequence's KV (per sequence), and multiplies for each prompt token.
Left out: growth of attention with context, and kernels that run better in larger batches.

Defaults: Llama-3.1-8B on one H200 under vLLM 0.25 took 5.0 ms a step at batch 1, 10.8 ms at batch
128 (so 0.046 ms a sequence), and 0.188 s for 7168 prompt tokens (38,000 a second), as measured for
this project (`h200_engine.jsonl` of its evidence). They are about six times slower here, so that a
small machine's own noise stays small against them.
"""

from __future__ import annotations

import difflib
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Self

from rayserve_par.errors import RefusedError

POLICIES = ("fcfs", "priority")
BY_LAYOUT = "by_layout"
_LABEL = re.compile(r"(?=.)(TP\d+)?(PP\d+)?(DP\d+)?(EP\d+)?")


@dataclass(frozen=True, slots=True)
class EngineTimes:
    """Times and capacities of one mock engine.

    block_tokens: tokens of one KV block. kv_blocks: blocks of the cache. max_num_seqs,
    max_num_batched_tokens, max_model_len, enable_prefix_caching: as vLLM's. scheduling_policy:
    "fcfs", or "priority" for lower numbers first. answer_tokens: an answer ends by itself then.
    """

    prefill_tokens_per_second: float = 6000.0
    step_base_seconds: float = 0.03
    step_seconds_per_sequence: float = 0.0003
    max_num_seqs: int = 128
    max_num_batched_tokens: int = 2048
    max_model_len: int = 8192
    kv_blocks: int = 4096
    block_tokens: int = 16
    enable_prefix_caching: bool = True
    scheduling_policy: str = "fcfs"
    answer_tokens: int = 128

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.type not in ("int", "float"):
                continue
            number = isinstance(value, int if field.type == "int" else (int, float))
            if not number or isinstance(value, bool) or not math.isfinite(value):
                raise RefusedError(f"{field.name} of the mock engine is {value!r}, not a number.")
            zero_is_fine = field.name == "step_seconds_per_sequence"
            if value < 0 or (value == 0 and not zero_is_fine):
                raise RefusedError(f"{field.name} of the mock engine is {value}; it is above 0.")
        if self.scheduling_policy not in POLICIES:
            raise RefusedError(
                f"scheduling_policy of the mock engine is {self.scheduling_policy!r}; "
                f"it is one of {', '.join(POLICIES)}."
            )
        if self.max_num_batched_tokens < self.max_num_seqs:
            raise RefusedError(
                f"max_num_batched_tokens {self.max_num_batched_tokens} is below max_num_seqs "
                f"{self.max_num_seqs}: every running sequence needs one token of each step."
            )
        if self.max_model_len > self.kv_tokens:
            raise RefusedError(
                f"max_model_len {self.max_model_len} is above the KV cache of {self.kv_blocks} "
                f"blocks x {self.block_tokens} tokens = {self.kv_tokens} tokens."
            )

    @property
    def kv_tokens(self) -> int:
        """Tokens that the KV cache holds."""
        return self.kv_blocks * self.block_tokens

    def blocks_of(self, tokens: int) -> int:
        """Blocks that hold `tokens`, the last one perhaps partly full."""
        return -(-tokens // self.block_tokens)

    def step_seconds(self, sequences: int, prefill_tokens: int) -> float:
        """Time of one step."""
        return (
            self.step_base_seconds
            + sequences * self.step_seconds_per_sequence
            + prefill_tokens / self.prefill_tokens_per_second
        )

    def full_requests_per_second(self, isl: int, osl: int) -> float:
        """Requests of `isl` and `osl` tokens with max_num_seqs running.

        One request's share of the engine: its prompt, and in each of its steps its own time and
        1/max_num_seqs of the base. Left out: prompts found in the cache, and KV that does not hold
        so many.
        """
        step = self.step_base_seconds / self.max_num_seqs + self.step_seconds_per_sequence
        return 1 / (isl / self.prefill_tokens_per_second + osl * step)

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any], layout: str = "TP1") -> Self:
        """The `mock_engine:` of a config, for an instance of this layout (`Layout.label`).

        `by_layout` in it maps labels such as "TP2" to what is other there.

        Raises:
            RefusedError: an unknown key or a value that cannot be, of any layout.
        """
        everywhere = {key: value for key, value in data.items() if key != BY_LAYOUT}
        others = data.get(BY_LAYOUT, {})
        if not isinstance(others, Mapping) or not all(map(_is_label, others)):
            raise RefusedError(
                f"{BY_LAYOUT} of the mock engine is {others!r}; give layouts' labels with what is "
                "other there, such as {TP2: {step_base_seconds: 0.02}}."
            )
        made = {label: cls._of({**everywhere, **_mapping(others[label])}) for label in others}
        usual = cls._of(everywhere)
        return made.get(layout, usual)

    @classmethod
    def _of(cls, data: Mapping[str, Any]) -> Self:
        known = [field.name for field in fields(cls)]
        for key in data:
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.4)
                hint = f"did you mean {near[0]!r}? " if near else ""
                raise RefusedError(
                    f"unknown key {key!r} of the mock engine; {hint}valid keys: "
                    f"{', '.join((*known, BY_LAYOUT))}"
                )
        return cls(**data)


def _is_label(found: object) -> bool:
    return isinstance(found, str) and bool(_LABEL.fullmatch(found))


def _mapping(found: object) -> Mapping[str, Any]:
    if isinstance(found, Mapping):
        return found
    raise RefusedError(f"{BY_LAYOUT} of the mock engine has {found!r}; give keys with values.")
