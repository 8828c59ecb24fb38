"""`rayserve-par calibrate`: measure this machine's GPUs into a profile that `plan` prefers."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

if TYPE_CHECKING:
    from types import FrameType

    from rich.table import Table

    from rayserve_par.control.calibration.calibrate import Machine
    from rayserve_par.hardware.profile import Profile


def calibrate(
    model: Annotated[
        str | None,
        typer.Option(
            help="Model of the engine run, with random weights: a name, folder or hub id. "
            "Llama-3.1-8B on GPUs and tiny-llama without any, if not given."
        ),
    ] = None,
    tp: Annotated[int, typer.Option(min=1, help="Ranks of the engine run's TP group.")] = 1,
    out: Annotated[Path | None, typer.Option(help="Write the profile (JSON) here.")] = None,
    skip_engine: Annotated[
        bool, typer.Option("--skip-engine", help="Measure devices and links only.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the profile as JSON.")] = False,
) -> None:
    """Measure memory, matrix products, links and one short engine run on this machine's GPUs."""
    from rayserve_par.cli.output import result_console
    from rayserve_par.control.calibration.calibrate import this_machine
    from rayserve_par.control.calibration.children import MeasurementFailedError
    from rayserve_par.hardware.profile_json import profile_to_json

    # Progress goes to the error output, so that --json can be piped.
    console = Console(stderr=True, highlight=False)
    # SIGINT too: Python leaves it ignored where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    _check_out(out)
    machine = this_machine()
    machine.check_tp(tp)
    name = None if skip_engine else model or machine.default_model
    try:
        profile = _measure(console, machine, name, tp)
    except KeyboardInterrupt:
        console.print("Stopped; no process of it is left.")
        sys.exit(130)
    except MeasurementFailedError as error:
        if error.details:
            console.print(error.details, style="dim", markup=False, soft_wrap=True)
        console.print(f"Failed: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(1)
    text = profile_to_json(profile)
    if out is not None:
        out.write_text(text + "\n", encoding="utf-8")
        console.print(f"Wrote {out}", soft_wrap=True, markup=False)
    if as_json:
        typer.echo(text)
        return
    for table in (_device_table(profile), _links_table(profile), _engine_table(profile)):
        if table.row_count:
            result_console().print(table)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _check_out(out: Path | None) -> None:
    """Refuse a file that cannot be written before minutes are spent on what goes into it."""
    from rayserve_par.errors import RefusedError

    if out is not None and (out.is_dir() or not out.resolve().parent.is_dir()):
        raise RefusedError(
            f"--out {out}: {'it is a folder' if out.is_dir() else 'its folder does not exist'}. "
            "Give a file in a folder that is there, such as profile.json."
        )


def _measure(console: Console, machine: Machine, model: str | None, tp: int) -> Profile:
    from datetime import UTC, datetime

    from rayserve_par.cli.stages import stage
    from rayserve_par.control.calibration.calibrate import (
        profile_of,
        run_collectives,
        run_device,
        run_engine,
    )

    engine, run = "none", None
    if model is not None:
        _check_engine(console, model)
    where = f"{machine.ranks} GPUs" if machine.on_gpu else "the CPU (no GPU here)"
    with stage(console, f"Measuring memory and matrix products on {where}"):
        device = run_device(machine)
    with stage(console, f"Measuring the links between {machine.ranks} ranks"):
        collectives = run_collectives(machine)
    if model is not None:
        with stage(console, f"Running the engine: {model}, TP {tp}, random weights"):
            run, engine = run_engine(machine, model, tp)
    now = datetime.now(UTC).isoformat(timespec="seconds")
    return profile_of(device, collectives, run, engine=engine, measured_at=now)


def _check_engine(console: Console, model: str) -> None:
    """Refuse an engine or a model that will not do before anything is measured."""
    from rayserve_par.cli.stages import stage
    from rayserve_par.serving.model_store.builtin import BUILTIN_MODELS, is_prepared
    from rayserve_par.serving.model_store.locate import locate_model
    from rayserve_par.serving.vllm_bridge.versions import check_vllm_version, installed_vllm

    check_vllm_version(installed_vllm())
    if model in BUILTIN_MODELS and not is_prepared(model):
        with stage(console, f"Preparing {model} (once)"):
            locate_model(model)
    else:
        locate_model(model)


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, justify="left" if index == 0 else "right")
    return table


def _device_table(profile: Profile) -> Table:
    table = _table(f"{profile.gpu}, {profile.engine}", "measured", "value")
    if profile.copy_bytes_per_second is not None:
        table.add_row("memory copy, read + written", _giga(profile.copy_bytes_per_second))
    for bits, flops in profile.matmul_flops:
        table.add_row(f"matrix product, {bits:g} bit", f"{flops / 1e12:.4g} TFLOP/s")
    return table


def _giga(bytes_per_second: float) -> str:
    return f"{bytes_per_second / 1e9:.4g} GB/s"


def _links_table(profile: Profile) -> Table:
    """The smallest message (latency) and the largest (bandwidth) of each collective."""
    table = _table("Links", "collective", "ranks", "message", "time", "bytes a rank / time")
    kinds = dict.fromkeys((point.op, point.ranks) for point in profile.collectives)
    for op, ranks in kinds:
        points = [p for p in profile.collectives if (p.op, p.ranks) == (op, ranks)]
        points.sort(key=lambda point: point.message_bytes)
        for point in dict.fromkeys((points[0], points[-1])):
            table.add_row(
                op,
                str(ranks),
                f"{point.message_bytes / 2**10:,.0f} KiB",
                f"{point.seconds * 1e6:,.1f} us",
                _giga(point.message_bytes / point.seconds),
            )
    return table


def _engine_table(profile: Profile) -> Table:
    table = _table("Engine", "run", "measured", "time")
    for run in profile.engine_runs:
        name = f"{run.model} {run.precision} TP {run.tp}"
        for tokens, seconds in run.prefill_seconds_by_prompt_tokens:
            table.add_row(name, f"prefill of {tokens:,} tokens", f"{seconds * 1e3:.1f} ms")
        for batch, seconds in run.tpot_seconds_by_batch:
            what = f"TPOT at batch {batch}, prompts of {run.prompt_tokens:,}"
            table.add_row(name, what, f"{seconds * 1e3:.2f} ms")
    return table
