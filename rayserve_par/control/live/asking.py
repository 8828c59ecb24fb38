"""What an operator asks of an application's controller: the override that there is -> the next one.

An override has one end. What still holds and is not taken back keeps its end, so a command that
adds to it must either give an end for both (`--for`) or find none set.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from rayserve_par.control.live.records import NO_OVERRIDE, Override
from rayserve_par.errors import RefusedError


@dataclass(frozen=True, slots=True)
class Limits:
    """How many instances an application may have, and what the cluster holds.

    `running` run or start now; `room` is how many more the free GPUs hold, None if nobody knows.
    """

    least: int
    most: int
    gpus_per_instance: int
    running: int
    room: int | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """When a command was given, for how long, and why. None: until it is taken back."""

    now_seconds: float
    for_seconds: float | None = None
    note: str = ""

    @property
    def until_seconds(self) -> float | None:
        """When it ends, Unix seconds."""
        return None if self.for_seconds is None else self.now_seconds + self.for_seconds


def paused(old: Override, asked: Asked) -> Override:
    """Leave the number of instances as it is. A number that was set is taken back."""
    before = replace(_holding(old, asked), paused=False, instances=None)
    return _added(before, replace(before, paused=True), asked)


def numbered(old: Override, asked: Asked, app: str, instances: int, limits: Limits) -> Override:
    """Set the number of instances. A pause is taken back.

    Raises:
        RefusedError: the number is outside the application's limits.
    """
    if not limits.least <= instances <= limits.most:
        raise RefusedError(_outside(app, instances, limits))
    before = replace(_holding(old, asked), paused=False, instances=None)
    return _added(before, replace(before, instances=instances), asked)


def dry_run(old: Override, asked: Asked, *, on: bool) -> Override:
    """Only write decisions down, or carry them out again."""
    before = replace(_holding(old, asked), dry_run=False)
    if on:
        return _added(before, replace(before, dry_run=True), asked)
    return before if _parts(before) else NO_OVERRIDE


def resumed() -> Override:
    """Take everything back: pause, number and dry run."""
    return NO_OVERRIDE


def room_note(instances: int, limits: Limits) -> str | None:
    """What the free GPUs lack for this number, with the arithmetic; None if nothing is known to."""
    more = instances - limits.running
    if limits.room is None or more <= limits.room:
        return None
    each = limits.gpus_per_instance
    return (
        f"{instances} instances - {limits.running} that run or start = {more} more x {each} "
        f"{'GPU' if each == 1 else 'GPUs'} = {more * each} GPUs, and the free ones hold "
        f"{limits.room} more; the others wait until there is room."
    )


def known_application(app: str, known: Sequence[str]) -> None:
    """Raises RefusedError, with the list, where `app` is not one of them."""
    if app in known:
        return
    listed = ", ".join(sorted(known))
    raise RefusedError(
        f"There is no application {app!r}. "
        + (f"There are: {listed}." if listed else "There is none at all; deploy one first.")
    )


def _holding(old: Override, asked: Asked) -> Override:
    return old if old.holds(asked.now_seconds) else NO_OVERRIDE


def _added(before: Override, changed: Override, asked: Asked) -> Override:
    """`changed` with the command's end and note; `before` is what goes on beside the new part.

    Raises:
        RefusedError: what goes on has an end, and the command gives none.
    """
    kept = _parts(before)
    if kept and before.until_seconds is not None and asked.for_seconds is None:
        left = before.until_seconds - asked.now_seconds
        raise RefusedError(
            f"{' and '.join(kept)} ends in {left:.0f} s, and one end counts for all that is asked "
            "of an application. Give an end for both with --for, or `resume` first."
        )
    return replace(changed, until_seconds=asked.until_seconds, note=asked.note)


def _parts(override: Override) -> tuple[str, ...]:
    found = []
    if override.paused:
        found.append("the pause")
    if override.instances is not None:
        found.append(f"the number {override.instances}")
    if override.dry_run:
        found.append("the dry run")
    return tuple(found)


def _outside(app: str, instances: int, limits: Limits) -> str:
    least, most, each = limits.least, limits.most, limits.gpus_per_instance
    gpus = f"{instances} x {each} = {instances * each} GPUs"
    if instances > most:
        what = f"above the most, {most} ({gpus} against {most} x {each} = {most * each})"
    else:
        what = f"below the least, {least} ({instances} < {least})"
    return (
        f"{app}: {instances} instances are {what}. Give a number from {least} to {most}, or change "
        "the limits in the config's `autoscaling` and deploy it again."
    )
