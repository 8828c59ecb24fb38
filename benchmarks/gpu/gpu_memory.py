"""Memory in use on GPUs over time, and whether one engine's was free before the next one's.

Samples are (seconds, MiB in use on all GPUs), from `nvidia-smi`, several a second.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

Sample = tuple[float, int]
_PERIOD_SECONDS = 0.1
_COMMAND = ("nvidia-smi", "--query-gpu=memory.used", "--format=csv,noheader,nounits")
# What a driver keeps, a context of another process or rounding may differ by.
_SLACK_MIB = 256
# A new engine's first context is about 500 MiB; its weights come after that.
_RISE_MIB = 384


@dataclass(frozen=True, slots=True)
class Release:
    """What memory did after an engine was killed; seconds are since then.

    `lowest_mib` is the least in use before it rose again; `freed_seconds` when it came down to
    what was in use before the engine was started, None where it never did before rising.
    """

    idle_mib: int
    serving_mib: int
    lowest_mib: int
    freed_seconds: float | None
    rise_seconds: float | None

    @property
    def freed_before_next(self) -> bool:
        """Whether all of the dead engine's memory was free before the next one took any."""
        return self.freed_seconds is not None


def release(samples: Sequence[Sample], idle_mib: int, killed_at: float) -> Release:
    """Follow the samples from the kill on.

    Raises:
        ValueError: there is no sample before or none after the kill.
    """
    before = [mib for seconds, mib in samples if seconds < killed_at]
    after = [(seconds - killed_at, mib) for seconds, mib in samples if seconds >= killed_at]
    if not before or not after:
        raise ValueError(f"no samples on both sides of the kill: {len(before)}, {len(after)}")
    lowest, freed, rise = before[-1], None, None
    for seconds, mib in after:
        if mib > lowest + _RISE_MIB:
            rise = seconds
            break
        lowest = min(lowest, mib)
        if freed is None and mib <= idle_mib + _SLACK_MIB:
            freed = seconds
    return Release(idle_mib, before[-1], lowest, freed, rise)


def used_mib() -> int:
    """MiB in use on all GPUs now."""
    done = subprocess.run(_COMMAND, capture_output=True, text=True, check=True)
    return sum(int(line) for line in done.stdout.splitlines() if line.strip())


@contextmanager
def sampled() -> Iterator[list[Sample]]:
    """A list that fills with samples (`time.monotonic()`) until the end of the block."""
    samples: list[Sample] = []
    over = threading.Event()

    def read() -> None:
        while not over.is_set():
            # One process for each sample: the tool's own loop writes into a buffer.
            mib = used_mib()
            samples.append((time.monotonic(), mib))
            over.wait(_PERIOD_SECONDS)

    reader = threading.Thread(target=read, daemon=True, name="gpu-memory")
    reader.start()
    try:
        yield samples
    finally:
        over.set()
        reader.join()
