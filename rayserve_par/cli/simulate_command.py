"""`rayserve-par simulate`: a trace against a fleet whose size a policy decides; no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from rayserve_par.cli.simulate_inputs import Made
    from rayserve_par.cli.simulate_view import Results
    from rayserve_par.control.decide.decision import Policy

_ATTAINMENT = 0.99
_LOAD, _FLEET, _RESULT = "Load", "Instances", "Result"


def simulate(
    trace: Annotated[
        str,
        typer.Option(
            help="A CSV of TIMESTAMP,ContextTokens,GeneratedTokens; or constant, step, diurnal, "
            "onoff.",
            rich_help_panel=_LOAD,
        ),
    ],
    model: Annotated[str, typer.Option(help="A model or a Serve config.", rich_help_panel=_FLEET)],
    cluster: Annotated[
        str,
        typer.Option(
            help="Hardware, such as 5x8xH100, or a YAML file with node_groups.",
            rich_help_panel=_FLEET,
        ),
    ],
    policy: Annotated[
        str,
        typer.Option(
            help="rayserve_par, or a baseline with its setting: target_ongoing_requests=8, "
            "average_rate=60, static=4.",
            rich_help_panel=_FLEET,
        ),
    ] = "rayserve_par",
    baseline: Annotated[
        list[str] | None,
        typer.Option(
            help="Compare with target_ongoing_requests or average_rate at their best settings, or "
            "with one setting (as in --policy); several times for several.",
            rich_help_panel=_RESULT,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(help="Multiply the rate by this (1).", rich_help_panel=_LOAD),
    ] = None,
    scaling: Annotated[
        Literal["users", "shape"],
        typer.Option(
            help="users: copies of the trace out of step with each other; shape: in step.",
            rich_help_panel=_LOAD,
        ),
    ] = "users",
    instances: Annotated[
        str | None,
        typer.Option(
            help="LOW..HIGH instead of --scale: the busiest minute needs HIGH instances (2..10 "
            "where the trace is synthetic, whose quiet times need LOW).",
            rich_help_panel=_LOAD,
        ),
    ] = None,
    duration: Annotated[
        float, typer.Option(help="Seconds of a synthetic trace.", rich_help_panel=_LOAD)
    ] = 3600.0,
    isl: Annotated[
        int, typer.Option(help="Mean prompt tokens of a synthetic trace.", rich_help_panel=_LOAD)
    ] = 2048,
    osl: Annotated[
        int, typer.Option(help="Mean output tokens of a synthetic trace.", rich_help_panel=_LOAD)
    ] = 128,
    seed: Annotated[int, typer.Option(help="Seed of all chance.", rich_help_panel=_LOAD)] = 1,
    ttft: Annotated[
        str, typer.Option(help="Limit on TTFT: ms, or with a unit.", rich_help_panel=_RESULT)
    ] = "2s",
    tpot: Annotated[
        str, typer.Option(help="Limit on TPOT: ms, or with a unit.", rich_help_panel=_RESULT)
    ] = "50ms",
    start_seconds: Annotated[
        float, typer.Option(help="How long an instance starts.", rich_help_panel=_FLEET)
    ] = 60.0,
    interval: Annotated[
        float, typer.Option(help="Longest time between decisions.", rich_help_panel=_FLEET)
    ] = 2.0,
    min_instances: Annotated[
        int, typer.Option("--min", help="The least instances.", rich_help_panel=_FLEET)
    ] = 1,
    max_instances: Annotated[
        int | None,
        typer.Option(
            "--max", help="The most instances (what the cluster holds).", rich_help_panel=_FLEET
        ),
    ] = None,
    fail: Annotated[
        list[str] | None,
        typer.Option(
            help="die@SECONDS, die:COUNT@SECONDS or start@SECONDS; several times for several.",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    max_num_batched_tokens: Annotated[
        int | None,
        typer.Option(
            help="Tokens of one engine step (the largest whose full step keeps TPOT).",
            rich_help_panel=_FLEET,
        ),
    ] = None,
    slower: Annotated[
        float,
        typer.Option(
            help="Engines are slower than the policy believes, by this factor.",
            rich_help_panel=_FLEET,
        ),
    ] = 1.0,
    oracle: Annotated[
        bool,
        typer.Option(
            help="Search the fewest GPU-hours with the trace known beforehand (many simulations).",
            rich_help_panel=_RESULT,
        ),
    ] = True,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write results here.", rich_help_panel=_RESULT)
    ] = None,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with charts here.", rich_help_panel=_RESULT)
    ] = None,
) -> None:
    """Simulate how a scaling policy serves a trace, and compare it with others."""
    from rayserve_par.cli.plan_options import milliseconds
    from rayserve_par.cli.simulate_inputs import SimulateOptions, make

    _check_files(json_file, html)
    options = SimulateOptions(
        trace=trace,
        model=model,
        cluster=cluster,
        scale=scale,
        scaling=scaling,
        instances=instances,
        start_seconds=start_seconds,
        interval_seconds=interval,
        ttft_seconds=milliseconds(ttft, "--ttft") / 1e3,
        tpot_seconds=milliseconds(tpot, "--tpot") / 1e3,
        isl=isl,
        osl=osl,
        duration_seconds=duration,
        least=min_instances,
        most=max_instances,
        fail=tuple(fail or ()),
        max_num_batched_tokens=max_num_batched_tokens,
        slower=slower,
        seed=seed,
    )
    made = make(options)
    results = _run(made, policy, tuple(baseline or ()), with_oracle=oracle)
    _show(made, results, json_file, html)


def _check_files(*paths: Path | None) -> None:
    for path in paths:
        if path is not None and (path.is_dir() or not path.resolve().parent.is_dir()):
            raise RefusedError(f"{path}: give a file in a folder that is there.")


def _policy(name: str, made: Made) -> Policy:
    from rayserve_par.control.decide.scale import ScalePolicy
    from rayserve_par.control.decide.settings import ScaleSettings
    from rayserve_par.control.simulate.baselines import settings_of

    workload = made.workload
    if name == "rayserve_par":
        start = workload.scenario.start_seconds
        return ScalePolicy(ScaleSettings(workload.bounds), workload.model, start)
    found = settings_of(name, workload.bounds, workload.model)
    if len(found) > 1:
        raise RefusedError(f"--policy {name}: give its setting, such as {name}=8.")
    return found[0]


def _run(
    made: Made,
    policy: str,
    baselines: tuple[str, ...],
    *,
    with_oracle: bool,
) -> Results:
    from rich.console import Console

    from rayserve_par.cli.simulate_view import Results
    from rayserve_par.cli.stages import stage
    from rayserve_par.control.simulate.baselines import settings_of
    from rayserve_par.control.simulate.study import best_baseline, oracle_of, run

    workload = made.workload
    for name in baselines:
        settings_of(name, workload.bounds, workload.model)  # a wrong name is refused at once
    console = Console(stderr=True)
    seconds = workload.scenario.duration_seconds
    with stage(console, f"simulate {policy}") as shown:
        ours, outcome = run(
            workload, _policy(policy, made), lambda now: shown.note(f"{now / seconds:.0%}")
        )
    compared = []
    for name in baselines:
        with stage(console, f"simulate {name}") as shown:
            compared.append((name, best_baseline(workload, name, _ATTAINMENT, shown.note)))
    oracle = None
    if with_oracle:
        with stage(console, "search the oracle") as shown:
            oracle = oracle_of(workload, _ATTAINMENT, shown.note)
    return Results(ours, outcome, tuple(compared), oracle)


def _show(made: Made, results: Results, json_file: Path | None, html: Path | None) -> None:
    import json

    from rayserve_par.cli.output import result_console
    from rayserve_par.cli.simulate_html import page
    from rayserve_par.cli.simulate_view import render
    from rayserve_par.control.simulate.study import document

    console = result_console()
    for line in made.lines:
        console.print(line, markup=False)
    console.print(render(made.workload, results))
    texts = {}
    if json_file is not None:
        found = document(made.workload, results.ours, results.baselines, results.oracle)
        texts[json_file] = json.dumps({**found, "scale": made.factor}, indent=1)
    if html is not None:
        texts[html] = page(made, results)
    for path, text in texts.items():
        try:
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise RefusedError(f"{path} cannot be written: {error.strerror}.") from error
        typer.echo(f"Wrote {path}", err=True)
