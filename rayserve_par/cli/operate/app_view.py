"""One application and its controller as text: a headline and a few short lines under it.

    chat  RUNNING  acting  tp2 (2 GPUs each)                       status 1 s ago
      instances  3 wanted, 2 ready, 1 starting, 0 draining; 1 to 8, room for 4 more
      load       2.31 requests/s of 512 in, 128 out; 34 running, 2 waiting; KV 63% at most
      TTFT       412 ms of 2 s ok    predicted 380 ms
      TPOT       31.2 ms of 50 ms ok    predicted 30 ms    steps take 1.08 x the plan
      decisions  12:00:01 #14 2 -> 3 forecast
                 11:58:00 #r2 change to 3 x TP2 by surge  better: ...

The newest decisions of the scaling policy and of the re-planner (`r`), and always the newest one of
the re-planner, which decides seldom. Where no controller has written anything, what Serve knows
stands alone.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from rayserve_par.cli.operate.figures import (
    age_text,
    clock_text,
    date_text,
    duration_text,
    mark_of,
    seconds_text,
    share_text,
)
from rayserve_par.cli.operate.replan_view import replan_text
from rayserve_par.cli.operate.rows import grid
from rayserve_par.control.decide.replan_events import ReplanEvent

if TYPE_CHECKING:
    from rayserve_par.control.live.overview import AppControl
    from rayserve_par.control.live.records import ControlStatus, Override
    from rayserve_par.control.live.told import Told
    from rayserve_par.control.serve_client import AppState

_DECISIONS_SHOWN = 3
_CLOCK_SECONDS = 12 * 3600.0
_SERVE_STYLES = {"RUNNING": "green", "DEPLOYING": "yellow"}
_MODE_STYLES = {"acting": "green", "dry_run": "cyan", "paused": "yellow", "overridden": "yellow"}


@dataclass(frozen=True, slots=True)
class AppLines:
    """What an application is shown from. `missing` says why an instance of it cannot start."""

    state: AppState
    control: AppControl
    now_seconds: float
    missing: str = ""
    zone: datetime.tzinfo | None = None


def render_app(lines: AppLines) -> RenderableType:
    """The headline and the lines under it."""
    return Group(headline(lines), grid(_rows(lines)))


def headline(lines: AppLines) -> Text:
    """Name, Serve's word, mode, layout, and how old all this is."""
    state, control = lines.state, lines.control
    text = Text.assemble(
        (state.name, "bold"), "  ", (state.status, _SERVE_STYLES.get(state.status, "bold red"))
    )
    status = control.status
    if status is None:
        text.append("  no controller has reported", "dim")
        return text
    text.append(f"  {status.mode.value}", _MODE_STYLES[status.mode.value])
    each = "GPU" if status.gpus_per_instance == 1 else "GPUs"
    text.append(f"  {status.layout} ({status.gpus_per_instance} {each} each)")
    stale = control.stale(lines.now_seconds)
    age = age_text(lines.now_seconds - status.seconds)
    text.append(f"  {'STALE: ' if stale else ''}status {age}", style="bold red" if stale else "dim")
    return text


def _rows(lines: AppLines) -> Iterator[tuple[str, Text]]:
    control, status = lines.control, lines.control.status
    if status is None:
        yield "instances", Text(serve_counts(lines.state))
    else:
        yield "instances", _instances(status)
        yield "load", _load(status)
        yield (
            "TTFT",
            _measured(
                status.ttft_seconds, status.ttft_target_seconds, status.predicted_ttft_seconds
            ),
        )
        tpot = _measured(
            status.tpot_seconds, status.tpot_target_seconds, status.predicted_tpot_seconds
        )
        tpot.append(f"; steps take {status.correction:.2f} x the plan")
        yield "TPOT", tpot
    asked = override_text(control.override, lines.now_seconds)
    if asked:
        yield "asked", Text(asked, style="yellow")
    for index, event in enumerate(_newest(control)):
        text = decision_text(event, lines.zone, lines.now_seconds)
        yield "" if index else "decisions", Text(text)
    message = _last_line(lines.state.message or lines.state.deployment_message)
    problems = [] if status is None else list(status.problems)
    problems += [lines.missing, control.unreadable]
    if not lines.state.running:
        problems.append(message)
    for problem in problems:
        if problem:
            yield "problem", Text(problem, style="red")


def serve_counts(state: AppState) -> str:
    """Replicas by Serve's state of them."""
    counts = Counter(str(replica["state"]).lower() for replica in state.replicas)
    return ", ".join(f"{counts[one]} {one}" for one in sorted(counts)) or "none"


def override_text(override: Override, now_seconds: float) -> str:
    """What an operator asks; "" where nobody asks anything."""
    parts = []
    if override.holds(now_seconds):
        if override.paused:
            parts.append("paused")
        if override.instances is not None:
            parts.append(f"{override.instances} instances")
        if override.dry_run:
            parts.append("dry run")
    if not parts:
        return ""
    until = override.until_seconds
    ends = "until resumed" if until is None else f"for {duration_text(until - now_seconds)} more"
    note = f" ({override.note})" if override.note else ""
    return f"{', '.join(parts)}, {ends}{note}"


def decision_text(
    event: Told, zone: datetime.tzinfo | None, now_seconds: float | None = None
) -> str:
    """A decision in a line; with the date where it is long before `now_seconds`."""
    old = now_seconds is not None and now_seconds - event.seconds > _CLOCK_SECONDS
    when = date_text(event.seconds, zone) if old else clock_text(event.seconds, zone)
    if isinstance(event, ReplanEvent):
        return f"{when} #{event.name} {replan_text(event)}"
    note = f": {event.note}" if event.note else ""
    return f"{when} #{event.name} {event.before} -> {event.wanted} {event.reason}{note}"


def _newest(control: AppControl) -> list[Told]:
    """What is shown of the decisions, the newest first."""
    shown = list(control.events[: -_DECISIONS_SHOWN - 1 : -1])
    replan = control.last_replan
    return shown if replan is None or replan in shown else [*shown, replan]


def _instances(status: ControlStatus) -> Text:
    text = Text(f"{status.wanted} wanted")
    if status.decided != status.wanted:
        text.append(f" ({status.decided} decided)", style="yellow")
    text.append(
        f", {status.ready} ready, {status.starting} starting, {status.draining} draining; "
        f"{status.least} to {status.most}"
    )
    if status.room is not None:
        text.append(f", room for {status.room} more")
    text.append(f"; {status.reason}")
    return text


def _load(status: ControlStatus) -> Text:
    running = sum(one.running for one in status.instances)
    waiting = sum(one.waiting for one in status.instances)
    fullest = max((one.kv_use for one in status.instances), default=0.0)
    return Text(
        f"{status.requests_per_second:.3g} requests/s of {status.isl:.0f} in, "
        f"{status.osl:.0f} out; {running} running, {waiting} waiting; "
        f"KV {share_text(fullest)} at most"
    )


def _measured(measured: float | None, target: float, predicted: float | None) -> Text:
    mark = mark_of(measured, target)
    return Text.assemble(
        (f"{seconds_text(measured)} of {seconds_text(target)} {mark.sign}", mark.style),
        f"; predicted {seconds_text(predicted)}",
    )


def _last_line(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1] if lines else ""
