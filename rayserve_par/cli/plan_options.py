"""What `plan` and `whatif` take alike, and the plans of a config or a model that come of it.

`PlanOptions` is the list of options: each field is one, with its help. A command that takes
`options: PlanOptions` is given the fields as options of its own by `with_plan_options`.

The cluster comes from one place: --gpus, --cluster, --address, or the config's hardware.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, get_type_hints

import typer

from rayserve_par.errors import RefusedError

if TYPE_CHECKING:
    from rayserve_par.hardware.cluster import Cluster
    from rayserve_par.planning.plan import Plan
    from rayserve_par.serving.config import AppArgs

_CONFIG_ENDINGS = (".yaml", ".yml")
_LAYOUT, _WORKLOAD, _UNKNOWN = "Explicit layout", "Workload", "Model of an unknown type"

ConfigOrModel = Annotated[
    str,
    typer.Argument(
        metavar="CONFIG_OR_MODEL",
        help="A Serve config (.yaml), or a model: hub id, folder or built-in name.",
    ),
]


def _workload_option(help_: str) -> Any:
    return typer.Option(help=help_, rich_help_panel=_WORKLOAD)


def _layout_option(help_: str) -> Any:
    return typer.Option(help=help_, rich_help_panel=_LAYOUT)


def _unknown_option(help_: str) -> Any:
    return typer.Option(help=help_, rich_help_panel=_UNKNOWN)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """Options that decide a plan. None: as the config says, or the planner's default."""

    gpus: Annotated[
        str | None,
        typer.Option(help="Hardware: 2x8xH200, 16xH200, B200, or several with commas between."),
    ] = None
    cluster: Annotated[
        Path | None,
        typer.Option(help="Hardware: a YAML file with node_groups, and gpus of your own."),
    ] = None
    address: Annotated[
        str | None,
        typer.Option(
            help="Hardware: a running Ray cluster. ray: the local one or the one of this node; "
            "else HOST:PORT or auto."
        ),
    ] = None
    profile: Annotated[
        Path | None,
        typer.Option(
            help="Measurements of these GPUs, written by rayserve-par calibrate --out. "
            "One kind of GPU: a cluster of several kinds is refused."
        ),
    ] = None
    target: Annotated[
        Literal["balanced", "latency", "throughput", "cost", "rate"] | None,
        typer.Option(
            help="What is best: the fewest GPUs per instance within the limits (balanced), the "
            "lowest TPOT, the most tokens/s/GPU, the fewest $/M tokens, the fewest GPUs for --rate."
        ),
    ] = None
    isl: Annotated[int | None, _workload_option("Prompt tokens of a request (1024).")] = None
    osl: Annotated[int | None, _workload_option("Output tokens of a request (256).")] = None
    rate: Annotated[float | None, _workload_option("Requests per second to carry.")] = None
    ttft: Annotated[
        str | None, _workload_option("Limit on TTFT: ms, or with a unit: 500ms, 2s (2 s).")
    ] = None
    tpot: Annotated[
        str | None, _workload_option("Limit on TPOT: ms, or with a unit: 25ms (50 ms).")
    ] = None
    tp: Annotated[int | None, _layout_option("Ranks of a TP group.")] = None
    pp: Annotated[int | None, _layout_option("PP stages.")] = None
    dp: Annotated[int | None, _layout_option("DP ranks.")] = None
    ep: Annotated[int | None, _layout_option("Ranks of the EP group.")] = None
    across: Annotated[
        Literal["auto", "nodes"] | None,
        _layout_option("nodes: every TP group on a node of its own."),
    ] = None
    instances: Annotated[
        int | None,
        typer.Option(help="Instances wanted; if not given, all that fit or that --rate needs."),
    ] = None
    max_model_len: Annotated[
        int | None, typer.Option(help="The longest request, in tokens, that must fit.")
    ] = None
    kv_allowance: Annotated[
        float | None, typer.Option(help="Rule of thumb: VRAM = weights x this (1.8).")
    ] = None
    weights_gib: Annotated[
        float | None, _unknown_option("All weights as stored, in GiB; takes the place of a config.")
    ] = None
    layers: Annotated[int | None, _unknown_option("Layers.")] = None
    hidden_size: Annotated[int | None, _unknown_option("Hidden size.")] = None
    kv_bytes_per_token: Annotated[
        float | None, _unknown_option("Bytes that a token adds to the KV cache of all layers.")
    ] = None
    kv_heads: Annotated[int | None, _unknown_option("KV heads of a layer.")] = None
    head_dim: Annotated[int | None, _unknown_option("Values per head.")] = None
    heads: Annotated[int | None, _unknown_option("Query heads.")] = None
    active_fraction: Annotated[
        float | None, _unknown_option("Active over total parameters (1: dense).")
    ] = None
    bits: Annotated[float | None, _unknown_option("Stored bits per parameter (16).")] = None
    context: Annotated[int | None, _unknown_option("Longest context, in tokens (131072).")] = None

    @property
    def overrides(self) -> dict[str, Any]:
        """What wins over a config's args, by their names; `layout` as a whole."""
        layout = {"tp": self.tp, "pp": self.pp, "dp": self.dp, "ep": self.ep, "across": self.across}
        workload = {
            "isl": self.isl,
            "osl": self.osl,
            "rate": self.rate,
            "ttft_ms": None if self.ttft is None else milliseconds(self.ttft, "--ttft"),
            "tpot_ms": None if self.tpot is None else milliseconds(self.tpot, "--tpot"),
        }
        found = {
            "hardware": self.gpus,
            "target": self.target,
            "layout": _given(layout) or None,
            "workload": _given(workload) or None,
            "num_replicas": self.instances,
            "kv_allowance": self.kv_allowance,
            "max_model_len": self.max_model_len,
        }
        return _given(found)

    @property
    def manual_facts(self) -> dict[str, Any]:
        """What is said of a model whose type is not known, by `manual_spec`'s names."""
        return _given(
            {
                "weights_gib": self.weights_gib,
                "layers": self.layers,
                "hidden_size": self.hidden_size,
                "kv_bytes_per_token": self.kv_bytes_per_token,
                "kv_heads": self.kv_heads,
                "head_dim": self.head_dim,
                "num_heads": self.heads,
                "active_fraction": self.active_fraction,
                "bits": self.bits,
                "max_context_tokens": self.context,
            }
        )


def _given(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value is not None}


def milliseconds(text: str, option: str) -> float:
    """Milliseconds of "500", "500ms" or "2s". Raises RefusedError for anything else."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*(ms|s)?\s*", text)
    if match is None or not float(match[1]):
        raise RefusedError(
            f"{option} {text}: not a time above 0. Write milliseconds (500), or 500ms, or 2s."
        )
    return float(match[1]) * (1000 if match[2] == "s" else 1)


def with_plan_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with the fields of `PlanOptions` in the place of its parameter `options`."""
    names = [field.name for field in fields(PlanOptions)]
    hints = get_type_hints(PlanOptions, include_extras=True)
    own = inspect.signature(command, eval_str=True)

    @wraps(command)
    def taken(**values: Any) -> None:
        options = PlanOptions(**{name: values.pop(name) for name in names})
        command(options=options, **values)

    shared = [
        inspect.Parameter(
            name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=hints[name]
        )
        for name in names
    ]
    rest = [
        one.replace(kind=inspect.Parameter.KEYWORD_ONLY)
        for one in own.parameters.values()
        if one.name != "options"
    ]
    parameters = [rest[0], *shared, *rest[1:]]
    taken.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    taken.__annotations__ = {one.name: one.annotation for one in parameters}
    del taken.__wrapped__
    return taken


@dataclass(frozen=True, slots=True)
class Asked:
    """One application of a config, or a model by itself: its name and args."""

    name: str
    args: AppArgs
    where: str


def is_config(config_or_model: str) -> bool:
    """Whether a Serve config is named, not a model."""
    return config_or_model.endswith(_CONFIG_ENDINGS)


def asked_for(config_or_model: str, overrides: Mapping[str, Any]) -> tuple[Asked, ...]:
    """The applications of a config, or one of the model's name, with the options over their args.

    Raises:
        RefusedError: there is no such config, or an argument is not valid.
    """
    if not is_config(config_or_model):
        arguments = {"model": config_or_model, "num_replicas": "fit"}
        args = _with_overrides(arguments, overrides, config_or_model)
        return (Asked(args.public_name, args, config_or_model),)
    from rayserve_par.control.config_file import read_config

    found = []
    for app in read_config(Path(config_or_model)).apps:
        where = f"application {app.name} of {config_or_model}"
        args = _with_overrides(app.args.model_dump(exclude_unset=True), overrides, where)
        found.append(Asked(app.name, args, where))
    return tuple(found)


def _with_overrides(
    arguments: Mapping[str, Any], overrides: Mapping[str, Any], where: str
) -> AppArgs:
    """The options given win over the arguments; a layout is replaced as a whole."""
    from rayserve_par.serving.config import parse_args

    merged = {**arguments, **overrides}
    if "max_model_len" in overrides:
        length = {"max_model_len": merged.pop("max_model_len")}
        merged["engine"] = {**merged.get("engine", {}), **length}
    if "workload" in overrides:
        merged["workload"] = {**(arguments.get("workload") or {}), **overrides["workload"]}
    if "num_replicas" in overrides:
        merged.pop("autoscaling", None)
    return parse_args(merged, where)


def plan_on_stated_hardware(args: AppArgs, where: str) -> Plan:
    """Plan on the hardware that the arguments name, without a cluster.

    Raises:
        RefusedError: they name none, the model is unknown, or no layout works.
    """
    from rayserve_par.serving.app import plan_for
    from rayserve_par.serving.model_store.locate import locate_model

    cluster = stated_cluster(args, where)
    return plan_for(args, locate_model(args.model, prepare=False), cluster)


def stated_cluster(args: AppArgs, where: str) -> Cluster:
    """The hardware that the arguments name. Raises RefusedError where they name none."""
    from rayserve_par.hardware.catalogue import gpu_names
    from rayserve_par.hardware.cluster import parse_cluster

    if args.hardware is None:
        raise RefusedError(
            f"No hardware to plan {where} on: there is no hardware: in a config and no --gpus. "
            "Give --gpus, for example --gpus 8xH100 (one node), --gpus 2x8xH200 (2 nodes of 8) or "
            "--gpus B200 (one usual node); or --cluster FILE.yaml, or --address ray. Known: "
            f"{', '.join(gpu_names())}."
        )
    return parse_cluster(args.hardware)
