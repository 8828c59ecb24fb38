"""What the front is told: limits, addresses, and the table that its Lua part reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from rayserve_par.serving.front.lua_table import lua_literal
from rayserve_par.serving.front.pools import Pool
from rayserve_par.serving.front.serve_config import App
from rayserve_par.serving.front.words import Said, silent_among
from rayserve_par.settings import Settings

LUA_FOLDER = Path(__file__).parent / "lua"
LOOPBACK = "127.0.0.1"
EVERY_INTERFACE = ("0.0.0.0", "*", "[::]", "")
# Larger ones cost every request: with 1 MiB HAProxy takes 0.08 ms more than with 16 KiB, with
# 256 KiB 0.02 ms. `model` often stands behind the messages, so it must be found in long ones.
_ONE_MODEL_BUFFER_BYTES = 2**18
_SEVERAL_MODELS_BUFFER_BYTES = 2**20


@dataclass(frozen=True, slots=True)
class FrontSettings:
    """Settings of one HAProxy; `folder` holds its configuration.

    With `hold`, requests of a model without an instance wait for one in Serve's Python proxy.
    """

    folder: Path
    front_host: str | None
    routing: str
    wanted_buffer_bytes: int | None
    max_body_bytes: int
    header_seconds: int
    body_seconds: int
    hold: bool = False

    @classmethod
    def of(cls, settings: Settings, folder: Path) -> FrontSettings:
        """The part of the process's settings that concerns the front."""
        return cls(
            folder=folder,
            front_host=settings.front_host,
            routing=settings.routing,
            wanted_buffer_bytes=settings.front_buffer_bytes,
            max_body_bytes=settings.front_max_body_bytes,
            header_seconds=settings.front_header_seconds,
            body_seconds=settings.front_body_seconds,
            hold=settings.front_hold,
        )

    @property
    def bind_host(self) -> str:
        """What stands before the port where Serve would bind every interface."""
        host = self.front_host or LOOPBACK
        return f"[{host}]" if ":" in host else host

    @property
    def lua_settings_file(self) -> Path:
        """The table that `lua/front.lua` reads."""
        return self.folder / "front_settings.lua"

    @property
    def names_file(self) -> Path:
        """Where the Lua part remembers model names."""
        return self.folder / "front_names.tsv"

    def buffer_bytes(self, apps: Sequence[App]) -> int:
        """Size of one of HAProxy's buffers."""
        if self.wanted_buffer_bytes is not None:
            return self.wanted_buffer_bytes
        return _SEVERAL_MODELS_BUFFER_BYTES if len(apps) > 1 else _ONE_MODEL_BUFFER_BYTES

    def lua_settings(
        self,
        apps: Sequence[App],
        pools: Sequence[Pool] = (),
        said: Mapping[str, Said] | None = None,
    ) -> str:
        """The text of `lua_settings_file`; `said` is by backend."""
        told, silent = said or {}, silent_among(apps, said or {})
        return "return " + lua_literal(
            {
                "routing": self.routing,
                "buffer_bytes": self.buffer_bytes(apps),
                "names_file": str(self.names_file),
                "backends": [
                    {
                        "name": app.backend,
                        "app": app.name,
                        "prefix": app.path_prefix,
                        "silent": app in silent,
                        **_word(told.get(app.backend)),
                        "servers": [
                            {"name": one.name, "host": one.host, "port": one.port}
                            for one in app.instances
                        ],
                    }
                    for app in apps
                ],
                "pools": [
                    {
                        "name": pool.backend,
                        "backends": [app.backend for app in pool.apps],
                        "may_join": [app.backend for app in pool.may_join],
                    }
                    for pool in pools
                ],
            }
        )


def _word(said: Said | None) -> dict[str, object]:
    if said is None or said.node_group is None:
        return {}
    return {"names": said.names, "node_group": said.node_group}
