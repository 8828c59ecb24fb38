"""Servers of an application that Serve takes out of HAProxy while it rebuilds the application.

Every change of an application's `args` makes Serve 2.60 forget which deployment is the ingress
until the new ones are built (`ApplicationState._set_target_state(deployment_infos=None)`), and its
controller tells HAProxy of no replica meanwhile, though all of them serve. So where a backend lost
all of its servers at once, the last ones stay; health checks find those that are really gone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

_SERVER = re.compile(r"^\s+server (\S+) (?!.* backup)", re.MULTILINE)
_BACKUP = re.compile(r"^\s+server \S+ \S+ check backup", re.MULTILINE)
_BACKEND = re.compile(r"^backend (http-\S+)\n(?:[ \t].*\n|\n)*", re.MULTILINE)

# Backend -> its server lines.
Servers = Mapping[str, tuple[str, ...]]


def servers_of(config: str) -> Servers:
    """The server lines of every application's backend, backups left out."""
    return {
        found[1]: tuple(line for line in found[0].splitlines() if _SERVER.match(line))
        for found in _BACKEND.finditer(config)
    }


def keep_servers(config: str, last: Servers) -> str:
    """`config` with the last servers of each backend that has none now."""

    def fill(found: re.Match[str]) -> str:
        kept = last.get(found[1], ())
        if not kept or any(_SERVER.match(line) for line in found[0].splitlines()):
            return found[0]
        return with_servers(found[0], kept)

    return _BACKEND.sub(fill, config)


def with_servers(backend: str, servers: Sequence[str]) -> str:
    """The text of a backend with these server lines instead of its own; a backup stays, behind."""
    lines = [one for one in backend.rstrip("\n").splitlines() if not _SERVER.match(one)]
    at = next((n for n, line in enumerate(lines) if _BACKUP.match(line)), len(lines))
    return "\n".join([*lines[:at], *servers, *lines[at:]]) + "\n"
