"""What was measured on a cluster's own GPUs; where there is such a profile, plans prefer it.

- `copy_bytes_per_second`: a large device-to-device copy, bytes read + bytes written over time.
- `matmul_flops`: (bits of the operands, FLOP/s) of large square matrix products, 2 n^3 / time.
- `collectives`: one operation over `ranks` ranks on `message_bytes` bytes a rank.
- `engine_runs`: short runs of the engine on one layout: prefill of one prompt, and TPOT by batch
  at prompts of `prompt_tokens`.

`measured_at` is a date and time in ISO 8601, written by who measured. Times are seconds.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Literal

from rayserve_par.errors import RefusedError

Collective = Literal["all_reduce", "all_gather", "reduce_scatter", "all_to_all", "send_recv"]

# Read by pydantic: a misspelled key of an edited file is refused rather than dropped.
_STRICT = {"extra": "forbid"}


def _refuse_below(where: str, least: float, values: Iterable[tuple[str, float]]) -> None:
    for name, value in values:
        if not isfinite(value) or value < least or value == 0:
            wanted = "above 0" if least == 0 else f"at least {least:g}"
            raise RefusedError(f"{where}: {name} of {value:g} must be {wanted}.")


def _refuse_doubled(where: str, keys: Iterable[float]) -> None:
    seen: set[float] = set()
    for key in keys:
        if key in seen:
            raise RefusedError(f"{where}: {key:g} is measured twice; keep one.")
        seen.add(key)


@dataclass(frozen=True, slots=True)
class CollectivePoint:
    """One collective's time. `message_bytes` is what each rank puts in."""

    op: Collective
    ranks: int
    message_bytes: int
    seconds: float

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        where = f"collective {self.op}"
        _refuse_below(where, 2, [("ranks", self.ranks)])
        _refuse_below(where, 0, [("bytes", self.message_bytes), ("seconds", self.seconds)])


@dataclass(frozen=True, slots=True)
class EngineRun:
    """One engine on one layout. The pairs are (prompt tokens, seconds) and (batch, seconds)."""

    model: str
    precision: str
    tp: int
    ep: int
    prompt_tokens: int
    prefill_seconds_by_prompt_tokens: tuple[tuple[int, float], ...]
    tpot_seconds_by_batch: tuple[tuple[int, float], ...]

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        where = f"engine run of {self.model}"
        sizes = [("tp", self.tp), ("ep", self.ep), ("prompt_tokens", self.prompt_tokens)]
        _refuse_below(where, 1, sizes)
        for what, pairs in (
            ("prefill by prompt tokens", self.prefill_seconds_by_prompt_tokens),
            ("TPOT by batch", self.tpot_seconds_by_batch),
        ):
            _refuse_below(f"{where}: {what}", 1, [("key", key) for key, _ in pairs])
            _refuse_below(f"{where}: {what}", 0, [("seconds", value) for _, value in pairs])
            _refuse_doubled(f"{where}: {what}", [key for key, _ in pairs])


@dataclass(frozen=True, slots=True)
class Profile:
    """The measurements of one kind of GPU with one engine (such as "vllm 0.25.0")."""

    gpu: str
    engine: str
    measured_at: str
    copy_bytes_per_second: float | None = None
    matmul_flops: tuple[tuple[float, float], ...] = ()
    collectives: tuple[CollectivePoint, ...] = ()
    engine_runs: tuple[EngineRun, ...] = ()

    __pydantic_config__ = _STRICT

    def __post_init__(self) -> None:
        where = f"profile of {self.gpu}"
        if self.copy_bytes_per_second is not None:
            _refuse_below(where, 0, [("copy_bytes_per_second", self.copy_bytes_per_second)])
        for what, index in (("compute bits", 0), ("FLOP/s", 1)):
            _refuse_below(
                f"{where}: matmul", 0, [(what, pair[index]) for pair in self.matmul_flops]
            )
        _refuse_doubled(f"{where}: matmul of bits", [bits for bits, _ in self.matmul_flops])
