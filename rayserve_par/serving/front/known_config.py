"""The configuration of a HAProxy whose manager does not know its applications yet.

A manager that Serve starts anew launches its HAProxy before its controller has told it of any
application (Ray 2.60), and that HAProxy takes the port over from the stand-in of the one before:
until the next reload every request would be answered 503 though all instances serve. So where a
stand-in serves and Serve's text names no application, the last text that named some is used.
Serve's first news of its applications is a reload like any other, which replaces it.
"""

from __future__ import annotations

from pathlib import Path

from rayserve_par.serving.front.serve_config import front_port, read_apps
from rayserve_par.serving.front.whole_files import write_whole


def known_config(config: str, known_file: Path, *, taking_over: bool) -> str:
    """Serve's `config`, or the last known one while taking over from a stand-in without any app.

    `known_file` is written with each `config` that names apps.

    Raises:
        RefusedError: no frontend binds a port.
    """
    if read_apps(config):
        write_whole(known_file, config)
        return config
    if not taking_over or not known_file.exists():
        return config
    known = known_file.read_text(encoding="utf-8")
    return known if front_port(known) == front_port(config) else config
