"""`rayserve-par plan`: the layout of a model on hardware that need not be there, and why.

Starts nothing; without --address it reads no cluster, and neither Ray, vLLM nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayserve_par.cli.plan_options import ConfigOrModel, PlanOptions, with_plan_options

if TYPE_CHECKING:
    from rayserve_par.cli.plan_inputs import PlanInput
    from rayserve_par.planning.plan import Plan

Made = Sequence[tuple["PlanInput", "Plan"]]


@with_plan_options
def plan(
    config_or_model: ConfigOrModel,
    options: PlanOptions,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every number down to its formula.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON: a plan, or plans by application if several."),
    ] = False,
    html: Annotated[
        Path | None, typer.Option(help="Write a page with the Pareto plot, memory and nodes here.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Write a Serve config with the layout chosen here.")
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Let --html and --out replace files that are there.")
    ] = False,
) -> None:
    """Choose the layout of a model on given hardware, and show why."""
    from rayserve_par.cli.plan_files import check_files, write_config, write_page
    from rayserve_par.cli.plan_inputs import plan_inputs

    check_files(html, out, options, force=force)
    made = [(one, one.plan()) for one in plan_inputs(config_or_model, options)]
    if html is not None:
        write_page(html, made)
    if out is not None:
        write_config(out, made, config_or_model)
    if as_json:
        typer.echo(_json({one.name: found for one, found in made}))
    else:
        _print(made, explain=explain)
    for path in (html, out):
        if path is not None:
            typer.echo(f"Wrote {path}", err=True)


def _json(plans: Mapping[str, Plan]) -> str:
    from rayserve_par.planning.plan_json import plan_to_json

    texts = {name: plan_to_json(one) for name, one in plans.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    import json

    return json.dumps({name: json.loads(text) for name, text in texts.items()}, indent=2)


def _print(made: Made, *, explain: bool) -> None:
    from rich.text import Text

    from rayserve_par.cli.output import result_console
    from rayserve_par.cli.plan_view import autoscaling_line, render_plan

    console = result_console()
    for index, (one, found) in enumerate(made):
        if len(made) > 1:
            console.print(Text(("\n" if index else "") + f"application {one.name}", style="bold"))
        shown = render_plan(
            found, explain=explain, model=one.spec, constants=one.constants, notes=one.notes
        )
        console.print(shown)
        autoscaling = autoscaling_line(one.args, found)
        if autoscaling is not None:
            console.print(Text(f"\n{autoscaling}"))
