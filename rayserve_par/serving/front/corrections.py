"""The corrections to the HAProxy configuration that Ray Serve writes, one table per section.

Serve's text is taken as it is, and each line that is to change must be there: a release of Ray that
words it otherwise is refused, since a correction that silently does nothing is a hole. Source of
the text: ray/serve/_private/haproxy_templates.py, release 2.60.

- global: the buffer that a body is looked at in (and kept in for a retry), and the Lua part.
- defaults: one retry, on another instance, for requests that got no answer (connection refused,
  closed without a byte, 503); slow headers; TCP keepalive; HAProxy's own errors.
- frontends: loopback instead of every interface, or `RAYSERVE_PAR_FRONT_HOST`.
- backends: the chosen instance; a server that answers its check with an error (Serve: draining)
  gets nothing new and keeps its streams; no Python proxy as backup, which would hold requests until
  a replica comes, unless `RAYSERVE_PAR_FRONT_HOLD` asks for that.

A dead process ends its connections itself. A dead host does not: keepalive and the user timeout end
them within 7 s, as read errors, so that started streams are cut and requests without an answer are
sent elsewhere; also in a process that is being replaced, which makes no checks any more.
`on-marked-down shutdown-sessions` would cut the latter instead: the connection error that marks a
server down takes the very request with it that HAProxy was about to send elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.serving.front.error_bodies import NO_SUCH_PATH, UNAVAILABLE
from rayserve_par.serving.front.front_settings import (
    EVERY_INTERFACE,
    LOOPBACK,
    LUA_FOLDER,
    FrontSettings,
)
from rayserve_par.serving.front.frontend_rules import (
    POOL_RULE,
    STOPPING,
    answer_rule,
    frontend_rules,
)
from rayserve_par.serving.front.pools import Pool, with_pools
from rayserve_par.serving.front.serve_config import App, front_port, map_sections, read_apps

MARK = "# Corrected by rayserve-par"
# 3 s of silence, then 4 probes 1 s apart.
_KEEPALIVE_LINES = tuple(
    line
    for side in ("srv", "cli")
    for line in (
        f"option {side}tcpka",
        f"{side}tcpka-idle 3s",
        f"{side}tcpka-intvl 1s",
        f"{side}tcpka-cnt 4",
    )
)
_SERVER_OPTIONS = "tcp-ut 7s"
_HOT_BUFFERS = 16
_SUCCESSOR = "rayserve_successor"
_RETRY_ON_SILENCE = "conn-failure empty-response"


@dataclass(frozen=True, slots=True)
class Correction:
    """Replace every line that `pattern` matches whole; there must be one unless `optional`."""

    pattern: str
    lines: tuple[str, ...]
    optional: bool = False

    def apply(self, text: str, section: str) -> str:
        """`text` of a section, corrected.

        Raises:
            RefusedError: the line is not there.
        """
        found = re.compile(rf"^(?P<indent>[ \t]+){self.pattern}[ \t]*$", re.MULTILINE)
        text, count = found.subn(
            lambda match: "\n".join(match["indent"] + match.expand(line) for line in self.lines),
            text,
        )
        if not count and not self.optional:
            raise RefusedError(
                f"Ray Serve's HAProxy configuration has no line like `{self.pattern}` in "
                f"`{section}`, which rayserve-par corrects there. It knows Ray 2.60; install "
                "that, or start without RAY_SERVE_HAPROXY_BINARY_PATH and without its corrections."
            )
        return text


def corrected_config(config: str, settings: FrontSettings, pools: Sequence[Pool] = ()) -> str:
    """Serve's configuration, corrected, with the pools' backends; one that is already stays as is.

    Raises:
        RefusedError: a line to correct is missing.
    """
    if MARK in config:
        return config
    apps = read_apps(config)
    by_backend = {app.backend: app for app in (*apps, *(pool.as_app for pool in pools))}

    def change(title: str, text: str) -> str:
        for correction in _corrections(title, apps, by_backend, settings, pooled=bool(pools)):
            text = correction.apply(text, title)
        return text

    corrected = map_sections(with_pools(config, pools), change)
    return f"{MARK}\n{corrected}{_successor(config, settings)}"


def _corrections(
    title: str,
    apps: Sequence[App],
    by_backend: dict[str, App],
    settings: FrontSettings,
    *,
    pooled: bool,
) -> tuple[Correction, ...]:
    kind, _, name = title.partition(" ")
    by_kind: dict[str, Callable[[], tuple[Correction, ...]]] = {
        "global": lambda: (Correction(r"tune\.bufsize \d+", _global_lines(apps, settings)),),
        "defaults": lambda: _defaults(settings),
        "listen": lambda: _bind(LOOPBACK),
        "frontend": lambda: (
            *_bind(settings.bind_host),
            *_frontend(name, apps, settings, pooled=pooled),
        ),
        "backend": lambda: _backend(
            name, by_backend.get(name), none_known=not apps, hold=settings.hold
        ),
    }
    return by_kind[kind]() if kind in by_kind else ()


def _frontend(
    name: str, apps: Sequence[App], settings: FrontSettings, *, pooled: bool
) -> tuple[Correction, ...]:
    if name != "http_frontend":
        return ()
    rules = (line.replace("\\", r"\\") for line in frontend_rules(apps, settings))
    before = (f"use_backend {_SUCCESSOR} if {STOPPING}", *((POOL_RULE,) if pooled else ()))
    return (
        Correction(r"(http-request return status .* if routes)", (r"\2", *rules)),
        Correction(r"(# Static routing based on path prefixes.*)", (*before, r"\2")),
    )


def _successor(config: str, settings: FrontSettings) -> str:
    """The backend of a process that is being replaced: who listens on its port now."""
    host = LOOPBACK if settings.bind_host in EVERY_INTERFACE else settings.bind_host
    return (
        f"\nbackend {_SUCCESSOR}\n"
        f"    retry-on {_RETRY_ON_SILENCE}\n"
        f"    server successor {host}:{front_port(config)} {_SERVER_OPTIONS}\n"
    )


def _bind(host: str) -> tuple[Correction, ...]:
    rest = r":(\d+(?:[ \t].*)?)"
    return (
        # One address and a port, so that the next correction can tell every interface from one.
        Correction(rf"(bind (?:[^\s:@,]*|\[?[\w:.%]+\]?){rest})", (r"\2",)),
        Correction(rf"bind (?:\*|0\.0\.0\.0|\[::\]|::)?{rest}", (rf"bind {host}:\2",), True),
    )


def _global_lines(apps: Sequence[App], settings: FrontSettings) -> tuple[str, ...]:
    buffer_bytes = settings.buffer_bytes(apps)
    return (
        f"tune.bufsize {buffer_bytes}",
        # A thread keeps 512 kB of free memory by default. Without room for some buffers each
        # request takes new pages from the system, which costs 0.9 ms with 1 MiB.
        f"tune.memory.hot-size {_HOT_BUFFERS * buffer_bytes}",
        # The choice of an instance is to run in one go: some 5,000 steps for 64 kB of prompt.
        "tune.lua.forced-yield 20000",
        f'lua-prepend-path "{LUA_FOLDER}/?.lua"',
        f'lua-load "{LUA_FOLDER}/front.lua" "{settings.lua_settings_file}"',
    )


def _defaults(settings: FrontSettings) -> tuple[Correction, ...]:
    return (
        Correction(r"(option redispatch 1)", (r"\2",)),
        Correction(r"retries \d+", (), optional=True),
        Correction(r"timeout http-request .*", (), optional=True),
        Correction(
            r"retry-on .*",
            (
                f"retry-on {_RETRY_ON_SILENCE} 503",
                "retries 1",
                f"timeout http-request {settings.header_seconds}s",
                *_KEEPALIVE_LINES,
            ),
        ),
        Correction(
            r"(errorfile 504 .*)",
            (
                r"\2",
                f'errorfile 400 "{settings.folder}/400.http"',
                f'errorfile 408 "{settings.folder}/408.http"',
            ),
        ),
    )


_NO_BACKUP = Correction(r"(server \S+ \S+ check backup)", (r"\2 disabled",), optional=True)


def _backend(name: str, app: App | None, *, none_known: bool, hold: bool) -> tuple[Correction, ...]:
    if name == "default_backend":
        # A HAProxy that has just been started anew is told of its applications a moment later.
        answer = answer_rule(UNAVAILABLE if none_known else NO_SUCH_PATH)
        return (Correction("http-request return status 404 .*", (answer,)),)
    if app is None:
        return ()
    chosen = "use-server %[var(txn.rayserve_server)] if { var(txn.rayserve_server) -m found }"
    # The only instance would be asked twice and be as busy the second time.
    alone = (f"retry-on {_RETRY_ON_SILENCE}",) if len(app.instances) < 2 else ()
    return (
        Correction(r"(http-check expect status 200)", (r"\2 error-status L7OKC",)),
        Correction(r"(default-server .*)", (rf"\2 {_SERVER_OPTIONS}", *alone, chosen)),
        *(() if hold else (_NO_BACKUP,)),
    )
