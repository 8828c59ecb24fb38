"""What one rank's GPU did during decode steps, from a trace of torch's profiler. Pure.

    busy            seconds in which at least one kernel ran
    communication   seconds in which a kernel of a collective or of an exchange between experts ran
    hops            seconds in which a kernel that sends to or receives from another stage ran
    exposed         busy less the seconds in which a kernel of none of these ran
    span            seconds from the first kernel's begin to the last one's end

A kernel that waits for another rank counts as running, so `hops` of a stage holds the time in which
another stage works. On logical GPUs there are no kernels, and operators on the CPU stand in.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# Of NCCL, vLLM's and FlashInfer's own all-reduces, torch's symmetric memory, DeepEP and NVSHMEM;
# on the CPU of torch's process groups and of vLLM's shared memory.
_HOP = re.compile(r"send_?recv|c10d::(send|recv)|shm_(send|recv)", re.IGNORECASE)
_COMMUNICATION = re.compile(
    r"nccl|all_?reduce|cross_device_reduce|all_?gather|reduce_?scatter|all_?to_?all|broadcast_"
    r"|multimem|deep_?ep|nvshmem|c10d::|shm_",
    re.IGNORECASE,
)
_KERNEL, _OPERATOR = "kernel", "cpu_op"
_MICROSECONDS = 1e-6

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class StepTimes:
    """Seconds of all the steps of a trace together; see the module."""

    span_seconds: float
    busy_seconds: float
    communication_seconds: float
    hop_seconds: float
    exposed_seconds: float


def read_trace(file: Path) -> list[dict[str, Any]]:
    """The events of a trace as torch's profiler writes it, gzipped."""
    with gzip.open(file, "rt", encoding="utf-8") as text:
        events: list[dict[str, Any]] = json.load(text)["traceEvents"]
    return events


def step_times(events: Iterable[Mapping[str, Any]]) -> StepTimes:
    """Sum up one rank's trace.

    Raises:
        ValueError: nothing ran.
    """
    complete = [event for event in events if event.get("ph") == "X"]
    ran = [event for event in complete if event.get("cat") == _KERNEL]
    ran = ran or [event for event in complete if event.get("cat") == _OPERATOR]
    if not ran:
        raise ValueError("no kernel and no operator is in the trace")
    everything = [_interval(event) for event in ran]
    hops = [_interval(event) for event in ran if _HOP.search(event["name"])]
    told = [_interval(e) for e in ran if is_communication(e["name"])]
    work = [
        _interval(event)
        for event in ran
        if not _HOP.search(event["name"]) and not is_communication(event["name"])
    ]
    busy = covered(everything)
    return StepTimes(
        span_seconds=max(end for _, end in everything) - min(begin for begin, _ in everything),
        busy_seconds=busy,
        communication_seconds=covered(told),
        hop_seconds=covered(hops),
        exposed_seconds=busy - covered(work),
    )


def is_communication(name: str) -> bool:
    """Whether a kernel of that name moves data between ranks of one stage."""
    return bool(_COMMUNICATION.search(name)) and not _HOP.search(name)


def _interval(event: Mapping[str, Any]) -> Interval:
    begin = float(event["ts"]) * _MICROSECONDS
    return begin, begin + float(event["dur"]) * _MICROSECONDS


def covered(intervals: Sequence[Interval]) -> float:
    """Seconds that at least one of the intervals covers."""
    total, reached = 0.0, float("-inf")
    for begin, end in sorted(intervals):
        total += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    return total
