"""`rayserve-par whatif`: the plan now and after each change of the cluster, side by side."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from rayserve_par.cli.plan_options import ConfigOrModel, PlanOptions, with_plan_options

if TYPE_CHECKING:
    from rayserve_par.cli.plan_inputs import PlanInput
    from rayserve_par.cli.whatif_view import Outcome


@with_plan_options
def whatif(
    config_or_model: ConfigOrModel,
    options: PlanOptions,
    add: Annotated[
        list[str] | None,
        typer.Option(help="Nodes to add, such as 1x8xH100; once for each change."),
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Nodes to take away, such as 1x8xH200; once for each change."),
    ] = None,
    add_gpus: Annotated[
        list[int] | None, typer.Option(help="GPUs to add to the only kind of nodes, whole nodes.")
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Make one change of all of them.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print every plan as JSON.")] = False,
) -> None:
    """Show what a plan becomes with nodes or GPUs added or removed."""
    from rayserve_par.cli.plan_inputs import plan_inputs
    from rayserve_par.errors import RefusedError

    if not (add or remove or add_gpus):
        raise RefusedError(
            "No change is named. Give --add 1x8xH100, --remove 1x8xH200 or --add-gpus 8."
        )
    found = {
        one.name: _outcomes(one, add or (), remove or (), add_gpus or (), together=together)
        for one in plan_inputs(config_or_model, options)
    }
    if as_json:
        typer.echo(_json(found))
    else:
        _print(found)


def _outcomes(
    one: PlanInput,
    add: Sequence[str],
    remove: Sequence[str],
    add_gpus: Sequence[int],
    *,
    together: bool,
) -> tuple[Outcome, ...]:
    from rayserve_par.cli.cluster_change import changes_on
    from rayserve_par.cli.whatif_view import Outcome

    changes = changes_on(one.cluster, add=add, remove=remove, add_gpus=add_gpus, together=together)
    clusters = [(change.label, change.on(one.cluster)) for change in changes]
    now = _outcome("now", one)
    return (
        now,
        *(
            Outcome(label, "no nodes", None, "No node is left.")
            if cluster is None
            else _outcome(label, one.on(cluster))
            for label, cluster in clusters
        ),
    )


def _outcome(label: str, one: PlanInput) -> Outcome:
    from rayserve_par.cli.whatif_view import Outcome
    from rayserve_par.errors import RefusedError

    try:
        return Outcome(label, one.cluster.label, one.plan())
    except RefusedError as refusal:
        return Outcome(label, one.cluster.label, None, str(refusal))


def _json(found: dict[str, tuple[Outcome, ...]]) -> str:
    import json

    shown = {
        name: {
            "now": _as_object(outcomes[0]),
            "changes": [_as_object(one, outcomes[0]) for one in outcomes[1:]],
        }
        for name, outcomes in found.items()
    }
    return json.dumps(next(iter(shown.values())) if len(shown) == 1 else shown, indent=2)


def _as_object(one: Outcome, now: Outcome | None = None) -> dict[str, Any]:
    import json

    from rayserve_par.cli.whatif_view import changed_reasons
    from rayserve_par.planning.plan_json import plan_to_json

    plan = None if one.plan is None else json.loads(plan_to_json(one.plan))
    found = {"cluster": one.cluster, "plan": plan, "refused": one.refused}
    if now is None:
        return found
    new, gone = changed_reasons(now, one)
    return {"change": one.label, **found, "new_reasons": new, "gone_reasons": gone}


def _print(found: dict[str, tuple[Outcome, ...]]) -> None:
    from rich.text import Text

    from rayserve_par.cli.output import result_console
    from rayserve_par.cli.whatif_view import render_outcomes

    console = result_console()
    for name, outcomes in found.items():
        if len(found) > 1:
            console.print(Text(f"application {name}", style="bold"))
        console.print(render_outcomes(outcomes))
