"""An application's Serve config with another layout or number of instances. Pure.

The layout goes into `args.replanned`, beside the user's own `layout: auto`: other args are other
code to Serve, which then replaces every instance. The number and the way of replacing go into the
`deployments` entry of the replica, which Serve applies without replacing anything. A user's number
goes there as well where it is all that changes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from rayserve_par.control.config_file import IMPORT_PATH
from rayserve_par.control.decide.change_way import Step
from rayserve_par.control.decide.prospect import Choice

DEPLOYMENT = "instance"


def with_choice(config: Mapping[str, Any], choice: Choice) -> dict[str, Any]:
    """`config` with this layout as the controller's choice."""
    layout = choice.layout
    replanned = {
        "tp": layout.tp,
        "pp": layout.pp,
        "dp": layout.dp,
        "ep": layout.ep,
        "across": "nodes" if choice.across_nodes else "auto",
        "nodes": choice.node_group,
        "instances": choice.instances,
    }
    return {**config, "args": {**(config.get("args") or {}), "replanned": replanned}}


def with_step(config: Mapping[str, Any], step: Step, *, sets_number: bool) -> dict[str, Any]:
    """`config` with this update; without `sets_number` the number is left to autoscaling."""
    options: dict[str, Any] = {
        "max_surge_percent": step.max_surge_percent,
        "rolling_update_percentage": step.rolling_update_percentage,
    }
    if sets_number:
        options["num_replicas"] = step.instances
    return {**config, "deployments": _with_options(config, options)}


def number_asked(kept: Mapping[str, Any] | None, args: Mapping[str, Any]) -> int | None:
    """The number that `rayserve-par deploy` was given for these args after they were deployed.

    `kept` is what it wrote down (`Kept.numbers`); of other args it says nothing.
    """
    if kept is None or _but_choice(kept["args"]) != _but_choice(args):
        return None
    return int(kept["instances"])


@dataclass(frozen=True, slots=True)
class Kept:
    """A document to deploy, and the numbers of instances that are asked for, to be written down."""

    document: dict[str, Any]
    numbers: dict[str, dict[str, Any]]


def keeping_choices(
    document: Mapping[str, Any],
    deployed: Mapping[str, Mapping[str, Any]],
    asked: Mapping[str, int | None],
) -> Kept:
    """`document` so that it replaces no instance of an application whose args are as deployed.

    The controller's choices stay. Where `num_replicas` is all that changes, the new number goes
    into the `deployments` entry. `deployed` and `asked`, the last such number, are by name.
    Applications of other builders stay as they are.
    """
    entries, numbers = [], {}
    for entry in document["applications"]:
        name = entry.get("name", "default")
        there = deployed.get(name)
        if there is None or entry.get("import_path") != IMPORT_PATH:
            entries.append(dict(entry))
            continue
        kept = _keeping(entry, there, asked.get(name))
        entries.append(kept)
        wanted, args = _wanted(entry), kept.get("args") or {}
        if isinstance(wanted, int) and args == (there.get("args") or {}):
            numbers[name] = {"instances": wanted, "args": args}
    return Kept({**document, "applications": entries}, numbers)


def _keeping(
    entry: Mapping[str, Any], deployed: Mapping[str, Any], asked: int | None
) -> dict[str, Any]:
    args, given = deployed.get("args") or {}, entry.get("args") or {}
    if _but_number(args) != _but_number(given):
        return dict(entry)
    was, wanted = _number(args), _wanted(entry)
    same = wanted == (was if asked is None else asked)
    if not same and not (isinstance(was, int) and isinstance(wanted, int)):
        return dict(entry)
    chosen = "replanned" in args
    kept = {"deployments": deployed["deployments"]} if chosen and "deployments" in deployed else {}
    new = {**kept, **entry, "args": dict(args)}
    if same and (chosen or asked is None):
        return new
    return {**new, "deployments": _with_options(new, {"num_replicas": wanted})}


def _wanted(entry: Mapping[str, Any]) -> Any:
    """The number of the replica's `deployments` entry, which Serve heeds first, or of the args."""
    for one in entry.get("deployments") or ():
        if one.get("name") == DEPLOYMENT and one.get("num_replicas") is not None:
            return one["num_replicas"]
    return _number(entry.get("args") or {})


def _number(args: Mapping[str, Any]) -> Any:
    """The number that the args ask for; None where the load decides."""
    by_load = args.get("autoscaling") or (args.get("workload") or {}).get("rate")
    return args.get("num_replicas") or (None if by_load else 1)


def _but_choice(args: Mapping[str, Any]) -> dict[str, Any]:
    """The user's args, without the controller's."""
    return {key: args[key] for key in args if key != "replanned"}


def _but_number(args: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in _but_choice(args).items() if key != "num_replicas"}


def _with_options(config: Mapping[str, Any], options: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The `deployments` of `config`, those of the replica with these options."""
    entries = [dict(entry) for entry in config.get("deployments") or ()]
    ours = next((entry for entry in entries if entry.get("name") == DEPLOYMENT), None)
    if ours is None:
        return [*entries, {"name": DEPLOYMENT, **options}]
    ours.update(options)
    return entries
