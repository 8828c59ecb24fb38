"""Names that several applications of a config serve: all of them answer on one base URL.

A name belongs to one application, unless all that serve it are a pool: each keeps to a node group
of its own, all have the same names, and each has a route prefix (the front sends a request to one
of them by it, and perhaps to another one after that).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import lookup_key, shipped_catalogue

if TYPE_CHECKING:
    from rayserve_par.control.config_file import ConfiguredApp


def check_names(where: str, apps: Sequence[ConfiguredApp]) -> None:
    """Refuse a name that two applications share without being a pool.

    Raises:
        RefusedError: names both, and says what would make them a pool.
    """
    for index, app in enumerate(apps):
        for found in conflicts(apps[:index], app):
            raise RefusedError(f"{where}: {found}")


def conflicts(apps: Sequence[ConfiguredApp], added: ConfiguredApp) -> Iterator[str]:
    """For each of `apps` that shares a name with `added`, why the two are no pool."""
    for app in apps:
        shared = set(app.args.public_names) & set(added.args.public_names)
        why = _why_no_pool(app, added, min(shared)) if shared else None
        if why is not None:
            yield why


def _why_no_pool(one: ConfiguredApp, other: ConfiguredApp, name: str) -> str | None:
    both = f"the applications {one.name} and {other.name} both serve a model called"
    groups = (one.args.node_group, other.args.node_group)
    if groups[0] is None or groups[1] is None:
        return (
            f"{both} {name!r}. Give one of them another served_model_name or alias; or, to serve "
            "it from several node groups under that name, give each a node_group of its own."
        )
    if _gpu(groups[0]) == _gpu(groups[1]):
        return (
            f"{both} {name!r} on the node group {_gpu(groups[0])}. Give one of them another "
            "node_group or another name, or make them one application with more replicas."
        )
    if set(one.args.public_names) != set(other.args.public_names):
        listed = ", ".join(
            f"{app.name} has {', '.join(app.args.public_names)}" for app in (one, other)
        )
        return (
            f"{both} {name!r}, each on a node group of its own; all of their names must be the "
            f"same then: {listed}. Give both the same served_model_name and aliases."
        )
    for app in (one, other):
        if app.route_prefix.rstrip("/") == "":
            return (
                f"{both} {name!r}, and {app.name} has the route_prefix /. Give it one of its own, "
                f"such as /{app.name}; requests to the root then reach both."
            )
    return None


def _gpu(node_group: str) -> str:
    found = shipped_catalogue().find(node_group)
    return lookup_key(node_group) if found is None else found.name
