"""What an application's instances say of it: its names and the node group that it keeps to.

Serve's configuration does not say either, so an instance of each application is asked
(`/internal/front`) when HAProxy is started anew. What one said counts for its application while it
is there, and after it until another one answers. Whose instances have not answered, the Lua part
goes on asking (`lua/rayserve_par/pools.lua`).
"""

from __future__ import annotations

import http.client
import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from typing import Any

from rayserve_par.serving.admission.paths import STATUS_PATH
from rayserve_par.serving.front.serve_config import App, Instance

_TIMEOUT_SECONDS = 1.0
_TIMES_ASKED = 3


@dataclass(frozen=True, slots=True)
class Said:
    """What an application's instance `server` said of it."""

    server: str
    names: tuple[str, ...]
    node_group: str | None

    def by_one_of(self, app: App) -> bool:
        """Whether that instance is there."""
        return any(one.name == self.server for one in app.instances)


def silent_among(apps: Sequence[App], said: Mapping[str, Said]) -> tuple[App, ...]:
    """Those with instances of which none has said anything yet; `said` is by backend."""
    return tuple(
        app
        for app in apps
        if app.instances and not ((told := said.get(app.backend)) and told.by_one_of(app))
    )


def said_by(apps: Sequence[App], known: Mapping[str, Said]) -> dict[str, Said]:
    """What each application's instances say; those whose word is known are not asked again.

    One application is in no pool and not asked. Takes 3 s at the most.
    """
    if len(apps) < 2:
        return dict(known)
    with ThreadPoolExecutor(max_workers=len(apps)) as threads:
        found = threads.map(lambda app: _said_by(app, known.get(app.backend)), apps)
        return {app.backend: one for app, one in zip(apps, found, strict=True) if one is not None}


def _said_by(app: App, known: Said | None) -> Said | None:
    if known is not None and known.by_one_of(app):
        return known
    for instance in islice(cycle(app.instances), _TIMES_ASKED):
        found = _ask(app, instance)
        if found is not None:
            return found
    return known


def _ask(app: App, instance: Instance) -> Said | None:
    connection = http.client.HTTPConnection(instance.host, instance.port, timeout=_TIMEOUT_SECONDS)
    try:
        connection.request("GET", f"{app.path_prefix}{STATUS_PATH}")
        answer = connection.getresponse()
        document = json.loads(answer.read()) if answer.status == 200 else None
    except (OSError, http.client.HTTPException, ValueError):
        # It is starting, ending or busy; the Lua part asks on.
        return None
    finally:
        connection.close()
    return _said(instance.name, document)


def _said(server: str, document: Any) -> Said | None:
    if not isinstance(document, dict):
        return None
    names, group = document.get("names"), document.get("node_group")
    if not isinstance(names, list) or not all(isinstance(one, str) for one in names):
        return None
    return Said(server, tuple(sorted(names)), group if isinstance(group, str) else None)


def as_text(said: Mapping[str, Said]) -> str:
    """`said` as it is kept beside the configuration."""
    return json.dumps({backend: asdict(one) for backend, one in said.items()})


def from_text(text: str) -> dict[str, Said]:
    """What `as_text` wrote."""
    return {
        backend: Said(one["server"], tuple(one["names"]), one["node_group"])
        for backend, one in json.loads(text).items()
    }
