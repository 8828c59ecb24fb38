"""Reads Ray Serve config files and checks the arguments of our applications in them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from rayserve_par.control.shared_names import check_names, conflicts
from rayserve_par.errors import RefusedError
from rayserve_par.serving.config import AppArgs, parse_args

IMPORT_PATH = "rayserve_par:build_app"


@dataclass(frozen=True, slots=True)
class ConfiguredApp:
    """One application of a config file whose builder is ours."""

    name: str
    route_prefix: str
    args: AppArgs
    runtime_env: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """A config file: `document` is what Ray Serve gets, `apps` are those that we build."""

    path: Path
    document: dict[str, Any]
    apps: tuple[ConfiguredApp, ...]


def read_config(path: Path) -> ServeConfig:
    """Read and check a Serve config file.

    Raises:
        RefusedError: no such file, no valid YAML, no application of ours, or invalid args.
    """
    if not path.is_file():
        raise RefusedError(f"There is no config file {path}.")
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise RefusedError(f"{path} is not valid YAML: {error}") from error
    applications = document.get("applications") if isinstance(document, dict) else None
    if not isinstance(applications, list) or not applications:
        raise RefusedError(f"{path} lists no applications; a Ray Serve config has applications:")
    apps = tuple(
        configured_app(entry, f"{entry.get('name')} in {path}")
        for entry in applications
        if isinstance(entry, dict) and entry.get("import_path") == IMPORT_PATH
    )
    if not apps:
        raise RefusedError(f"{path} has no application with import_path: {IMPORT_PATH}")
    check_names(str(path), apps)
    return ServeConfig(path=path, document=document, apps=apps)


def configured_app(entry: Mapping[str, Any], where: str) -> ConfiguredApp:
    """One application of ours from its entry in a Serve config.

    Raises:
        RefusedError: its args are not valid.
    """
    return ConfiguredApp(
        name=entry.get("name", "default"),
        route_prefix=entry.get("route_prefix", "/"),
        args=parse_args(entry.get("args") or {}, where),
        runtime_env=entry.get("runtime_env") or {},
    )


def conflicts_with_deployed(
    apps: Sequence[ConfiguredApp], deployed: Mapping[str, Mapping[str, Any]]
) -> Iterator[str]:
    """Why `apps` are no pool with applications that are deployed, by name, and keep running.

    Only of ours, and of what this release understands.
    """
    replaced = {app.name for app in apps}
    for name, entry in deployed.items():
        if name in replaced or entry.get("import_path") != IMPORT_PATH:
            continue
        try:
            other = configured_app(entry, name)
        except RefusedError:
            continue
        for app in apps:
            yield from conflicts([other], app)
