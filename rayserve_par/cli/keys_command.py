"""`rayserve-par keys`: make API keys, and list those of a file.

A key is printed once, by the command that made it; the file keeps its hash.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rayserve_par.serving.admission.keys import KeyEntry

keys = typer.Typer(no_args_is_help=True, help="Make API keys and list them.")

_FILE_HELP = "YAML or JSON file of keys; default: RAYSERVE_PAR_KEYS_FILE."
_LOCK_SECONDS = 10.0


@keys.command("new")
def new_key(
    name: Annotated[str, typer.Argument(help="Name of the key's owner; it shows in logs.")],
    rpm: Annotated[int | None, typer.Option(min=1, help="Requests per minute.")] = None,
    tpm: Annotated[int | None, typer.Option(min=1, help="Tokens per minute.")] = None,
    concurrency: Annotated[int | None, typer.Option(min=1, help="Requests at once.")] = None,
    priority: Annotated[int, typer.Option(help="Lower is served earlier.")] = 0,
    model: Annotated[list[str] | None, typer.Option(help="Allowed model; repeatable.")] = None,
    expires: Annotated[str | None, typer.Option(help="End, as 2027-01-31 or with a time.")] = None,
    file: Annotated[Path | None, typer.Option(help=_FILE_HELP)] = None,
) -> None:
    """Make a key, print it once, and add its hash to the file (or print the entry)."""
    from rayserve_par.serving.admission.keys import hash_of, new_secret
    from rayserve_par.settings import load_settings

    secret = new_secret()
    limits = {"requests_per_minute": rpm, "tokens_per_minute": tpm, "concurrency": concurrency}
    wanted: dict[str, Any] = {
        "name": name,
        "sha256": hash_of(secret),
        "limits": {key: value for key, value in limits.items() if value is not None},
        "priority": priority,
        "models": model,
        "expires": expires,
    }
    entry = _checked({key: value for key, value in wanted.items() if value})
    path = file or load_settings().keys_file
    if path is None:
        typer.echo(_yaml([entry]), nl=False)
    else:
        _add(path, entry)
        typer.echo(f"Added {name!r} to {path}; running replicas read it within 2 s.", err=True)
    typer.echo("The key, shown only now:", err=True)
    typer.echo(secret)


@keys.command("list")
def list_keys(file: Annotated[Path | None, typer.Option(help=_FILE_HELP)] = None) -> None:
    """List the keys of the file (or of RAYSERVE_PAR_KEYS) without their hashes."""
    import time

    from rich import box
    from rich.table import Table

    from rayserve_par.cli.output import result_console
    from rayserve_par.errors import RefusedError
    from rayserve_par.serving.admission.key_source import open_key_source

    source = open_key_source(None if file is None else str(file))
    if source is None:
        raise RefusedError(
            "No keys are configured; name a file with --file or RAYSERVE_PAR_KEYS_FILE."
        )
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("name", "requests/min", "tokens/min", "at once", "priority", "models", "ends"):
        table.add_column(column, overflow="fold")
    now = time.time()
    for entry in source.keys.entries:
        limits = entry.limits
        counts = (limits.requests_per_minute, limits.tokens_per_minute, limits.concurrency)
        end = "never" if entry.expires is None else entry.expires.isoformat()
        table.add_row(
            entry.name,
            *("-" if count is None else str(count) for count in counts),
            str(entry.priority),
            "all" if entry.models is None else ", ".join(entry.models),
            f"{end} (over)" if entry.expired(now) else end,
        )
    result_console().print(table)


def _checked(data: dict[str, Any]) -> KeyEntry:
    from rayserve_par.serving.admission.keys import parse_keys

    return parse_keys(_dump([data]), "the new key").entries[0]


def _plain(entry: KeyEntry) -> dict[str, Any]:
    return entry.model_dump(mode="json", exclude_defaults=True, exclude_none=True)


def _dump(entries: list[dict[str, Any]]) -> str:
    import yaml

    text: str = yaml.safe_dump({"keys": entries}, sort_keys=False, default_flow_style=None)
    return text


def _yaml(entries: list[KeyEntry]) -> str:
    return _dump([_plain(entry) for entry in entries])


def _add(path: Path, entry: KeyEntry) -> None:
    """Add `entry` to the file, which readers always see whole; it is the owner's alone."""
    import json
    import os
    import tempfile

    from filelock import FileLock

    from rayserve_par.errors import RefusedError
    from rayserve_par.serving.admission.keys import parse_keys

    path = path.absolute()
    if not path.parent.is_dir():
        raise RefusedError(f"There is no folder {path.parent} for the keys; make it first.")
    with FileLock(f"{path}.lock", timeout=_LOCK_SECONDS):
        entries = []
        if path.exists():
            entries = list(parse_keys(path.read_text(encoding="utf-8"), str(path)).entries)
        if any(old.name == entry.name for old in entries):
            raise RefusedError(
                f"{path} has a key named {entry.name!r}; take another name, or remove its entry."
            )
        entries.append(entry)
        as_json = path.suffix == ".json"
        whole = {"keys": [_plain(each) for each in entries]}
        text = json.dumps(whole, indent=2) + "\n" if as_json else _yaml(entries)
        mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            stream.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
