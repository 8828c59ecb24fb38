"""Pools: applications that serve one model, each on a node group of its own.

Serve's configuration does not say which these are, so instances are asked (`/internal/front`).
What one said counts for its application while it is there, and after it until another one answers:
an application without an instance stays in its pool.

    pool        applications with the same names, a node group each, all different, and a prefix
    backend     the first one's section with the servers of all, for requests that name the model

So HAProxy's retries go over the instances of all. The name is that of the first one's backend with
the ending that Serve knows: so it counts the pool's requests before it stops a node's HAProxy
(ray/serve/_private/haproxy.py, count_ongoing_http_requests, release 2.60).
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
from rayserve_par.serving.front.kept_servers import servers_of, with_servers
from rayserve_par.serving.front.serve_config import App, Instance, sections

_ENDING = "-via-ingress-request-router"
_TIMEOUT_SECONDS = 1.0
_TIMES_ASKED = 3


@dataclass(frozen=True, slots=True)
class Said:
    """What an application's instance `server` said of it."""

    server: str
    names: tuple[str, ...]
    node_group: str | None


@dataclass(frozen=True, slots=True)
class Pool:
    """Two applications at least."""

    apps: tuple[App, ...]

    @property
    def backend(self) -> str:
        """The name of its backend."""
        return f"{self.apps[0].backend}{_ENDING}"

    @property
    def as_app(self) -> App:
        """Its backend as one with the servers of all."""
        servers = tuple(one for app in self.apps for one in app.instances)
        return App(self.backend, self.apps[0].route_prefix, servers)


def pools_of(apps: Sequence[App], said: Mapping[str, Said]) -> tuple[Pool, ...]:
    """The pools among `apps`, of which `said` is known by backend.

    Of two on the same node group only the first one is in a pool.
    """
    by_names: dict[tuple[str, ...], dict[str, App]] = {}
    for app in apps:
        told = said.get(app.backend)
        if told is not None and told.names and told.node_group and app.path_prefix:
            by_names.setdefault(told.names, {}).setdefault(told.node_group, app)
    return tuple(Pool(tuple(found.values())) for found in by_names.values() if len(found) > 1)


def with_pools(config: str, pools: Sequence[Pool]) -> str:
    """Serve's `config` with each pool's backend behind it."""
    texts, lines = dict(sections(config)), servers_of(config)
    added = []
    for pool in pools:
        first = pool.apps[0].backend
        servers = [line for app in pool.apps for line in lines[app.backend]]
        text = with_servers(texts[f"backend {first}"], servers)
        added.append(text.replace(f"backend {first}", f"backend {pool.backend}", 1))
    return "".join([config if config.endswith("\n") else f"{config}\n", *added])


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
    if known is not None and any(one.name == known.server for one in app.instances):
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
        # It is starting or ending, and HAProxy is started anew for the next one.
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
