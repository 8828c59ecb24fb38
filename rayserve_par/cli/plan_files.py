"""The files that `plan` writes: a Serve config, and a page.

The config states what was decided, so that it plans alike wherever it is read: the layout, the
hardware, the number of instances (unless it scales), the workload, and max_model_len where the
KV cache does not hold the model's full context, at which the engine would otherwise not start:

    max_model_len = the longest single request that fits, at most the KV tokens of a DP rank

With windows or states a token of a short request takes more of the cache than one of a long one,
so the longest that fits may be less than the KV tokens.

Of a config that was read everything else is kept.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayserve_par.cli.plan_inputs import PlanInput
from rayserve_par.cli.plan_options import PlanOptions, is_config
from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from rayserve_par.planning.plan import Plan

Made = Sequence[tuple[PlanInput, "Plan"]]


def check_files(html: Path | None, out: Path | None, options: PlanOptions, *, force: bool) -> None:
    """Refuse, before anything is planned, what cannot be written."""
    for option, path in (("--html", html), ("--out", out)):
        if path is None:
            continue
        if path.is_dir() or not path.resolve().parent.is_dir():
            why = "it is a folder" if path.is_dir() else "its folder does not exist"
            raise RefusedError(f"{option} {path}: {why}. Give a file in a folder that is there.")
        if path.exists() and not force:
            raise RefusedError(f"{option} {path} is there already. --force replaces it.")
    if out is not None and options.weights_gib is not None:
        raise RefusedError(
            "--out: a Serve config's model is read from its config.json when it is deployed, and "
            "a model described by --weights-gib is of a type that is not known there."
        )


def write_page(path: Path, made: Made) -> None:
    """Write the HTML page of all plans."""
    from rayserve_par.cli.plan_html import PagePlan, page

    plans = [PagePlan(one.name, one.spec, found, one.constants, one.notes) for one, found in made]
    _write(path, "--html", page(plans))


def write_config(path: Path, made: Made, config_or_model: str) -> None:
    """Write a Serve config that deploys the plans."""
    import yaml

    document = _document(made, config_or_model)
    lines = [f"# {_comment(one, found)}\n" for one, found in made]
    text = yaml.safe_dump(document, sort_keys=False, default_flow_style=False, width=100)
    _write(path, "--out", "".join(lines) + text)


def _write(path: Path, option: str, text: str) -> None:
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"{option} {path} cannot be written: {error.strerror}.") from error


def _comment(one: PlanInput, plan: Plan) -> str:
    point = plan.point
    return (
        f"{one.name}: {plan.layout.label} on {plan.node_group.label}, planned by rayserve-par for "
        f"{plan.workload.label}: TTFT {1e3 * point.ttft_seconds:.0f} ms, TPOT "
        f"{1e3 * point.tpot_seconds:.1f} ms"
    )


def _document(made: Made, config_or_model: str) -> dict[str, Any]:
    if is_config(config_or_model):
        from rayserve_par.control.config_file import IMPORT_PATH, read_config

        document = read_config(Path(config_or_model)).document
        args = iter([args_of(one, found) for one, found in made])
        for entry in document["applications"]:
            if isinstance(entry, dict) and entry.get("import_path") == IMPORT_PATH:
                entry["args"] = next(args)
        return document
    return {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [_application(one, found) for one, found in made],
    }


def _application(one: PlanInput, plan: Plan) -> dict[str, Any]:
    from rayserve_par.control.config_file import IMPORT_PATH

    name = re.sub(r"[^a-z0-9]+", "-", one.name.lower()).strip("-") or "model"
    args = args_of(one, plan)
    return {"name": name, "route_prefix": "/", "import_path": IMPORT_PATH, "args": args}


def args_of(one: PlanInput, plan: Plan) -> dict[str, Any]:
    """The application's args with what the plan decided put in."""
    from rayserve_par.hardware.catalogue import shipped_catalogue

    args: dict[str, Any] = one.args.model_dump(mode="json", exclude_unset=True)
    if Path(one.args.model).is_dir():
        args["model"] = str(Path(one.args.model).resolve())
    layout = plan.layout
    sizes = {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep}
    written: dict[str, Any] = {key: size for key, size in sizes.items() if size > 1} or {"tp": 1}
    if plan.across_nodes:
        written["across"] = "nodes"
    args["layout"] = written
    args.pop("hardware", None)
    if shipped_catalogue().find(plan.node_group.gpu.name) is not None:
        args["hardware"] = plan.node_group.label
    if one.args.autoscaling is None:
        args["num_replicas"] = plan.instances
    lengths = {"isl": plan.workload.isl, "osl": plan.workload.osl}
    args["workload"] = {**(args.get("workload") or {}), **lengths}
    unset = one.args.engine.get("max_model_len") is None
    if unset and plan.memory.kv_tokens < one.spec.max_context_tokens:
        args["engine"] = {**one.args.engine, "max_model_len": plan.memory.longest_request}
    return args
