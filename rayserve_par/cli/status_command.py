"""`rayserve-par status`: applications, instances, and what runs on each GPU."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from rayserve_par.control.live.overview import AppControl
    from rayserve_par.control.observe import Observation

ADDRESS_HELP = "GCS address of a Ray cluster (HOST:PORT or auto); without it the local cluster."


def status(
    address: Annotated[str | None, typer.Option(help=ADDRESS_HELP)] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON instead.")] = False,
) -> None:
    """Show applications, instances, and nodes x GPUs with the rank on each."""
    from rayserve_par.cli.connect import connect
    from rayserve_par.control.live.reading import read_controls
    from rayserve_par.control.observe import observe
    from rayserve_par.control.serve_client import ServeClient

    connect(address)
    seen = observe(ServeClient())
    controls = read_controls(app.name for app in seen.apps)
    console = Console(highlight=False)
    if as_json:
        console.print_json(data=as_data(seen, controls, time.time()))
    else:
        console.print(render(seen, controls, time.time()))


def render(
    seen: Observation, controls: Mapping[str, AppControl], now_seconds: float
) -> RenderableType:
    """An observation as tables and the picture of the nodes."""
    apps = Table(
        "application", "status", "instances", "layout", "message", box=None, pad_edge=False
    )
    for app in seen.apps:
        states = [str(replica["state"]).lower() for replica in app.replicas]
        counts = ", ".join(f"{states.count(s)} {s}" for s in sorted(set(states))) or "none"
        message = _short(app.message or app.deployment_message)
        apps.add_row(app.name, app.status, counts, layout_told(app.config), message)
    parts: list[RenderableType] = [apps, *_controllers(controls, now_seconds)]
    for name, reason in seen.missing.items():
        parts.append(Text(f"\n{name} cannot start all of its instances: {reason}", style="red"))
    if seen.instances:
        table = Table("instance", "model", "layout", "ranks", "start", box=None, pad_edge=False)
        for number, view in enumerate(seen.instances):
            alive = f"{len(view.ranks)} of {view.layout.gpus}"
            seconds = f"{view.record.start_seconds:.1f} s"
            name = f"{view.record.app}#{number}"
            table.add_row(name, view.record.model, view.layout.label, alive, seconds)
        parts += [Text(""), table]
    return Group(*parts, Text(""), Text(seen.picture))


def _controllers(
    controls: Mapping[str, AppControl], now_seconds: float
) -> Iterator[RenderableType]:
    """A row for every application that anything was decided about, and what operators ask."""
    from rayserve_par.cli.operate.app_view import decision_text, override_text
    from rayserve_par.cli.operate.figures import age_text

    told = [one for one in controls.values() if one.status is not None or one.events]
    if not told:
        return
    columns = ("controller", "mode", "wanted", "ready", "reason", "last decision", "reported")
    table = Table(*columns, box=None, pad_edge=False)
    for control in told:
        status, stale = control.status, control.stale(now_seconds)
        last = "none yet"
        if control.events:
            last = decision_text(control.events[-1], None, now_seconds)
        if status is None:
            table.add_row(control.app, "-", "-", "-", "-", last, "never")
            continue
        reported = ("STALE: " if stale else "") + age_text(now_seconds - status.seconds)
        table.add_row(
            control.app,
            status.mode.value,
            str(status.wanted),
            str(status.ready),
            status.reason,
            last,
            Text(reported, style="red" if stale else ""),
        )
    yield Text("")
    yield table
    for control in controls.values():
        asked = override_text(control.override, now_seconds)
        if asked:
            yield Text(f"{control.app}: asked for {asked}", style="yellow")
        problems = control.status.problems if control.status is not None else ()
        for problem in (*problems, control.unreadable):
            if problem:
                yield Text(f"{control.app}: {problem}", style="red")


def layout_told(config: Mapping[str, Any]) -> str:
    """What an application's config says of the layout: the user's word, and the controller's."""
    args = config.get("args") or {}
    if "model" not in args:
        return ""
    told = args.get("layout", "auto")
    if told != "auto":
        return f"set: {_label(told)}"
    replanned = args.get("replanned")
    return "auto" if replanned is None else f"auto, re-planned: {_label(replanned)}"


def _label(layout: Mapping[str, Any]) -> str:
    from rayserve_par.planning.layout import Layout

    return Layout(**{key: layout.get(key, 1) for key in ("tp", "pp", "dp", "ep")}).label


def _short(message: str) -> str:
    lines = message.strip().splitlines()
    return lines[-1][:120] if lines else ""


def as_data(
    seen: Observation, controls: Mapping[str, AppControl], now_seconds: float
) -> dict[str, Any]:
    """An observation as plain data for scripts.

    An application's `control` is null where it has no controller; else `status` is what that wrote
    last, `override` what an operator asks, `last_event` the scaling policy's newest decision and
    `last_replan` the re-planner's.
    """
    return {
        "applications": [
            {
                "name": app.name,
                "status": app.status,
                "message": app.message,
                "layout": layout_told(app.config),
                "instances": [{"id": r["replica_id"], "state": r["state"]} for r in app.replicas],
                "control": controls[app.name].as_object(now_seconds)
                if app.name in controls
                else None,
            }
            for app in seen.apps
        ],
        "missing": dict(seen.missing),
        "nodes": [
            {"name": n.name, "id": n.node_id, "gpus": n.gpus_total, "gpus_free": n.gpus_free}
            for n in seen.nodes
        ],
        "instances": [
            {
                "app": view.record.app,
                "replica_id": view.record.replica_id,
                "model": view.record.model,
                "layout": view.layout.label,
                "start_seconds": view.record.start_seconds,
                "ranks": [
                    {"dp_rank": r.dp_rank, "rank": r.rank, "node_id": r.node_id, "gpu": r.gpu}
                    for r in view.ranks
                ],
            }
            for view in seen.instances
        ],
    }
