"""`rayserve-par plan`: the layout of a model on hardware that need not be there, and why.

Reads no cluster and starts nothing; neither Ray, vLLM nor torch is imported.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from rayserve_par.planning.plan import Plan
    from rayserve_par.serving.config import AppArgs

_CONFIG_ENDINGS = (".yaml", ".yml")


def plan(
    config_or_model: Annotated[
        str,
        typer.Argument(
            metavar="CONFIG_OR_MODEL",
            help="A Serve config (.yaml), or a model: hub id, folder or built-in name.",
        ),
    ],
    gpus: Annotated[
        str | None,
        typer.Option(help="Hardware, such as 2x8xH200, 16xH200 or B200; wins over the config's."),
    ] = None,
    target: Annotated[
        Literal["throughput", "latency"] | None,
        typer.Option(help="The fewest GPUs per instance, or the widest TP inside a node."),
    ] = None,
    tp: Annotated[int | None, typer.Option(help="Explicit layout: ranks of a TP group.")] = None,
    pp: Annotated[int | None, typer.Option(help="Explicit layout: PP stages.")] = None,
    dp: Annotated[int | None, typer.Option(help="Explicit layout: DP ranks.")] = None,
    ep: Annotated[int | None, typer.Option(help="Explicit layout: ranks of the EP group.")] = None,
    across: Annotated[
        Literal["auto", "nodes"] | None,
        typer.Option(help="nodes: every TP group of the explicit layout on a node of its own."),
    ] = None,
    instances: Annotated[
        int | None, typer.Option(help="Instances wanted; as many as fit if not given.")
    ] = None,
    max_model_len: Annotated[
        int | None, typer.Option(help="The longest request, in tokens, that must fit.")
    ] = None,
    kv_allowance: Annotated[
        float | None, typer.Option(help="Rule of thumb: VRAM = weights x this (1.8).")
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="Show every refused layout and the exact memory.")
    ] = False,
    as_json: Annotated[
        bool,
        typer.Option("--json", help="Print JSON: a plan, or plans by application if several."),
    ] = False,
) -> None:
    """Choose the layout of a model on given hardware, and show why."""
    layout = {"tp": tp, "pp": pp, "dp": dp, "ep": ep, "across": across}
    overrides: dict[str, Any] = {
        "hardware": gpus,
        "target": target,
        "layout": {key: value for key, value in layout.items() if value is not None} or None,
        "num_replicas": instances,
        "kv_allowance": kv_allowance,
        "max_model_len": max_model_len,
    }
    plans = _plans(config_or_model, overrides)
    if as_json:
        typer.echo(_json(plans))
    else:
        _print(plans, explain=explain)


def _plans(config_or_model: str, overrides: Mapping[str, Any]) -> dict[str, tuple[AppArgs, Plan]]:
    """Arguments and plan by application, or by the model's name where there is no config."""
    if not config_or_model.endswith(_CONFIG_ENDINGS):
        arguments = {"model": config_or_model, "num_replicas": "fit"}
        args = _with_overrides(arguments, overrides, config_or_model)
        return {args.public_name: (args, plan_on_stated_hardware(args, config_or_model))}
    from pathlib import Path

    from rayserve_par.control.config_file import read_config

    found = {}
    for app in read_config(Path(config_or_model)).apps:
        where = f"application {app.name} of {config_or_model}"
        args = _with_overrides(app.args.model_dump(exclude_unset=True), overrides, where)
        found[app.name] = (args, plan_on_stated_hardware(args, where))
    return found


def _with_overrides(
    arguments: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> AppArgs:
    """The options given win over the arguments; a layout is replaced as a whole."""
    from rayserve_par.serving.config import parse_args

    given = {key: value for key, value in overrides.items() if value is not None}
    merged = {**arguments, **given}
    if "max_model_len" in given:
        length = {"max_model_len": merged.pop("max_model_len")}
        merged["engine"] = {**merged.get("engine", {}), **length}
    if "num_replicas" in given:
        merged.pop("autoscaling", None)
    return parse_args(merged, where)


def plan_on_stated_hardware(args: AppArgs, where: str) -> Plan:
    """Plan on the hardware that the arguments name, without a cluster.

    Raises:
        RefusedError: they name none, the model is unknown, or no layout works.
    """
    from rayserve_par.errors import RefusedError
    from rayserve_par.hardware.catalogue import gpu_names
    from rayserve_par.hardware.cluster import parse_cluster
    from rayserve_par.serving.app import plan_for
    from rayserve_par.serving.model_store.locate import locate_model

    if args.hardware is None:
        raise RefusedError(
            f"No hardware to plan {where} on: there is no hardware: in a config and no --gpus. "
            "Give --gpus, for example --gpus 8xH100 (one node), --gpus 2x8xH200 (2 nodes of 8) or "
            f"--gpus B200 (one usual node). Known: {', '.join(gpu_names())}."
        )
    cluster = parse_cluster(args.hardware)
    return plan_for(args, locate_model(args.model, prepare=False), cluster)


def _json(plans: Mapping[str, tuple[AppArgs, Plan]]) -> str:
    from rayserve_par.planning.plan_json import plan_to_json

    texts = {name: plan_to_json(one) for name, (_, one) in plans.items()}
    if len(texts) == 1:
        return next(iter(texts.values()))
    import json

    return json.dumps({name: json.loads(text) for name, text in texts.items()}, indent=2)


def _print(plans: Mapping[str, tuple[AppArgs, Plan]], *, explain: bool) -> None:
    from rich.text import Text

    from rayserve_par.cli.output import result_console
    from rayserve_par.cli.plan_view import autoscaling_line, render_plan

    console = result_console()
    for index, (name, (args, one)) in enumerate(plans.items()):
        if len(plans) > 1:
            console.print(Text(("\n" if index else "") + f"application {name}", style="bold"))
        console.print(render_plan(one, explain=explain))
        autoscaling = autoscaling_line(args, one)
        if autoscaling is not None:
            console.print(Text(f"\n{autoscaling}"))
