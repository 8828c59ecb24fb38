"""What Serve's generated HAProxy configuration says: its sections, apps and instances.

An app is a backend with a route prefix (`acl is_NAME path PREFIX`); an instance is a server of it.
Serve's Python proxy, the `backup` server, is none.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from rayserve_par.errors import RefusedError

_SECTION = re.compile(r"^(?=\S)", re.MULTILINE)
_PREFIX = re.compile(r"^\s+acl is_(\S+) path (/\S*)$", re.MULTILINE)
_SERVER = re.compile(r"^\s+server (\S+) (\S+):(\d+) check(?! backup)", re.MULTILINE)
_BIND = re.compile(r"^\s+bind \S*:(\d+)", re.MULTILINE)
_PROTOCOL = re.compile(r"^https?-")


@dataclass(frozen=True, slots=True)
class Instance:
    """One server of a backend."""

    name: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class App:
    """One backend of HAProxy: a Serve application, so a model."""

    backend: str
    route_prefix: str
    instances: tuple[Instance, ...]

    @property
    def name(self) -> str:
        """The application's name, as far as a backend's name shows it."""
        return _PROTOCOL.sub("", self.backend)

    @property
    def path_prefix(self) -> str:
        """What its paths begin with: the route prefix, or nothing for the root."""
        return "" if self.route_prefix == "/" else self.route_prefix.rstrip("/")


def sections(config: str) -> Iterator[tuple[str, str]]:
    """Each section's first line (`frontend http_frontend`) and whole text, in order."""
    for text in _SECTION.split(config):
        if text:
            yield text.split("\n", maxsplit=1)[0].strip(), text


def map_sections(config: str, change: Callable[[str, str], str]) -> str:
    """`config` with each section replaced by `change(first line, text)`."""
    return "".join(change(title, text) for title, text in sections(config))


def front_port(config: str) -> int:
    """The port on which clients are answered.

    Raises:
        RefusedError: no frontend binds one.
    """
    text = dict(sections(config)).get("frontend http_frontend", "")
    found = _BIND.search(text)
    if found is None:
        raise RefusedError(
            "Ray Serve's HAProxy configuration binds no port in `frontend http_frontend`. "
            "rayserve-par knows that of Ray 2.60; install that."
        )
    return int(found[1])


def read_apps(config: str) -> tuple[App, ...]:
    """The HTTP apps, in Serve's order: the longest prefix first."""
    bodies = {title.removeprefix("backend "): text for title, text in sections(config)}
    return tuple(
        App(
            backend=name,
            route_prefix=prefix,
            instances=tuple(
                Instance(server, host, int(port))
                for server, host, port in _SERVER.findall(bodies[name])
            ),
        )
        for name, prefix in _PREFIX.findall(config)
        if name in bodies
    )
