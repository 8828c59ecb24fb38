"""The parts, in the order in which they are run: what each needs, and the function that does it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.calibration import calibrate
from benchmarks.gpu.cases import ENGINES, SERVED, SPLIT_MODELS, EngineCase, ServedCase
from benchmarks.gpu.engine import measure
from benchmarks.gpu.ledger import Record, Status
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.product import product
from benchmarks.gpu.recovery import recovery
from benchmarks.gpu.steps import steps
from benchmarks.gpu.tokens import tokens
from rayserve_par.errors import RefusedError

# No part may take longer; what it started is ended then.
LIMIT_SECONDS = 600.0


@dataclass(frozen=True, slots=True)
class Part:
    """One part: its file's name, what it says of itself, the GPUs that it needs."""

    name: str
    title: str
    gpus: int
    run: Callable[[Machine, Path], dict[str, Any]]
    why_not: Callable[[Machine], str | None] = lambda _: None

    def reason_to_skip(self, machine: Machine) -> str | None:
        """Why it cannot run on this machine; None where it can."""
        return machine.why_not(self.gpus) or self.why_not(machine)


def _engine(case: EngineCase) -> Part:
    return Part(
        f"engine-{case.slug}",
        f"{case.model} as {case.layout.label}: memory, prefill, TPOT",
        case.layout.gpus,
        lambda machine, _: measure(case, machine),
        case.why_not,
    )


def _steps(case: EngineCase) -> Part:
    return Part(
        f"steps-{case.slug}",
        f"{case.model} as {case.layout.label}: where a decode step's time goes",
        case.layout.gpus,
        lambda machine, _: steps(case, machine),
        case.why_not,
    )


def _served(
    name: str, title: str, run: Callable[[ServedCase, Machine], dict[str, Any]], case: ServedCase
) -> Part:
    return Part(
        f"{name}-{case.slug}",
        f"{title}, {case.label}",
        case.gpus,
        lambda machine, _: run(case, machine),
    )


PARTS: tuple[Part, ...] = (
    Part("calibrate", "`rayserve-par calibrate`, as a user runs it", 1, calibrate),
    *(_engine(case) for case in ENGINES),
    *(_steps(case) for case in ENGINES if case.model in SPLIT_MODELS),
    *(_served("product", "start, GPUs, an answer", product, case) for case in SERVED),
    *(_served("recovery", "an engine killed", recovery, case) for case in SERVED),
    *(_served("tokens", "the tokens of bare vLLM", tokens, case) for case in SERVED),
)


def chosen(names: Sequence[str], parts: Iterable[Part] = PARTS) -> tuple[Part, ...]:
    """The parts whose name is one of `names` or begins with one and a hyphen; all where none is.

    Raises:
        RefusedError: a name that means no part; the message lists them.
    """
    parts = tuple(parts)
    for name in names:
        if not any(_meant(part, name) for part in parts):
            known = ", ".join(part.name for part in parts)
            raise RefusedError(f"--only {name}: there is no such part. Parts: {known}.")
    return tuple(p for p in parts if not names or any(_meant(p, name) for name in names))


def _meant(part: Part, name: str) -> bool:
    return part.name == name or part.name.startswith(f"{name}-")


def to_run(
    parts: Iterable[Part], records: dict[str, Record], *, again: bool = False
) -> tuple[Part, ...]:
    """The parts that are not done yet; all of them with `again`."""
    done = {name for name, record in records.items() if record.status is Status.DONE}
    return tuple(part for part in parts if again or part.name not in done)
