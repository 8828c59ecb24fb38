"""Pools: applications that serve one model, each on a node group of its own.

    pool        applications with the same names, a node group each, all different, and a prefix
    backend     the first one's section with the servers of all, for requests that name the model

So HAProxy's retries go over the instances of all. The name is that of the first one's backend with
the ending that Serve knows: so it counts the pool's requests before it stops a node's HAProxy
(ray/serve/_private/haproxy.py, count_ongoing_http_requests, release 2.60).

A silent application (`words.silent_among`) may turn out to be of any pool, or to be one with any
application that is alone. A running HAProxy can get no further backend, so each of these has the
silent one's servers already, in maintenance; for an application alone that is a backend of which
all servers are. The Lua part makes them ready when it knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rayserve_par.serving.front.kept_servers import servers_of, with_servers
from rayserve_par.serving.front.serve_config import App, sections
from rayserve_par.serving.front.words import Said, silent_among

_ENDING = "-via-ingress-request-router"
_MAINTENANCE = " disabled"


@dataclass(frozen=True, slots=True)
class Pool:
    """Its applications, or one alone that `may_join` would make a pool."""

    apps: tuple[App, ...]
    may_join: tuple[App, ...] = ()

    @property
    def backend(self) -> str:
        """The name of its backend."""
        return f"{self.apps[0].backend}{_ENDING}"

    @property
    def as_app(self) -> App:
        """Its backend as one with the servers of all."""
        servers = tuple(one for app in (*self.apps, *self.may_join) for one in app.instances)
        return App(self.backend, self.apps[0].route_prefix, servers)

    def server_lines(self, lines: Mapping[str, Sequence[str]]) -> list[str]:
        """Its servers, of each application's `lines` by backend."""
        alone = len(self.apps) == 1
        return [
            f"{line}{_MAINTENANCE if waits else ''}"
            for apps, waits in ((self.apps, alone), (self.may_join, True))
            for app in apps
            for line in lines[app.backend]
        ]


def pools_of(apps: Sequence[App], said: Mapping[str, Said]) -> tuple[Pool, ...]:
    """The pools among `apps`, of which `said` is known by backend, and what may become one.

    Of two on the same node group only the first one is in a pool.
    """
    known = _known(apps, said)
    silent = [app for app in silent_among(apps, said) if app.path_prefix]
    pooled = {app.backend for found in known for app in found}
    singles = [
        app
        for app in apps
        if app.backend not in pooled and (app in silent or _could_be_pooled(app, said))
    ]
    pools = []
    for members in (*known, *((one,) for one in singles)):
        may_join = list(silent)
        if members[0] in silent and len(members) == 1:
            # Of two silent ones the backend of the first has both.
            may_join = [app for app in silent if app not in singles[: singles.index(members[0])]]
        pool = Pool(members, tuple(app for app in may_join if app not in members))
        if len(pool.apps) + len(pool.may_join) > 1:
            pools.append(pool)
    return tuple(pools)


def _known(apps: Sequence[App], said: Mapping[str, Said]) -> list[tuple[App, ...]]:
    by_names: dict[tuple[str, ...], dict[str, App]] = {}
    for app in apps:
        if _could_be_pooled(app, said):
            told = said[app.backend]
            by_names.setdefault(told.names, {}).setdefault(told.node_group or "", app)
    return [tuple(found.values()) for found in by_names.values() if len(found) > 1]


def _could_be_pooled(app: App, said: Mapping[str, Said]) -> bool:
    told = said.get(app.backend)
    return bool(told is not None and told.names and told.node_group and app.path_prefix)


def with_pools(config: str, pools: Sequence[Pool]) -> str:
    """Serve's `config` with each pool's backend behind it."""
    texts, lines = dict(sections(config)), servers_of(config)
    added = []
    for pool in pools:
        first = pool.apps[0].backend
        text = with_servers(texts[f"backend {first}"], pool.server_lines(lines))
        added.append(text.replace(f"backend {first}", f"backend {pool.backend}", 1))
    return "".join([config if config.endswith("\n") else f"{config}\n", *added])
