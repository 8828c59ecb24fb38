"""An application's Serve config with another layout or number of instances. Pure.

The layout goes into `args.replanned`, beside the user's own `layout: auto`: other args are other
code to Serve, which then replaces every instance. The number and the way of replacing go into the
`deployments` entry of the replica, which Serve applies without replacing anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

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
    entries = [dict(entry) for entry in config.get("deployments") or ()]
    ours = next((entry for entry in entries if entry.get("name") == DEPLOYMENT), None)
    if ours is None:
        entries.append({"name": DEPLOYMENT, **options})
    else:
        ours.update(options)
    return {**config, "deployments": entries}


def keeping_choices(
    document: Mapping[str, Any], deployed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """`document` with the choices for applications whose args are as they were deployed.

    Without it the same config deployed again would replace every instance. `deployed` is by name.
    """
    return {
        **document,
        "applications": [
            _keeping(entry, deployed.get(entry.get("name", "default"), {}))
            for entry in document["applications"]
        ],
    }


def _keeping(entry: Mapping[str, Any], deployed: Mapping[str, Any]) -> dict[str, Any]:
    args = dict(deployed.get("args") or {})
    replanned = args.pop("replanned", None)
    if replanned is None or args != (entry.get("args") or {}):
        return dict(entry)
    kept = {"deployments": deployed["deployments"]} if deployed.get("deployments") else {}
    return {**kept, **entry, "args": {**args, "replanned": replanned}}
