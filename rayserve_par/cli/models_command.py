"""`rayserve-par models`: which models can be named without a folder of their own."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table


def models() -> None:
    """List built-in models, models with a shipped config, and those in the Hugging Face cache."""
    from rayserve_par.cli.output import result_console

    console = result_console()
    for table in (_builtin(), _shipped(), _cached()):
        if table.row_count:
            console.print(table)
    console.print("A folder with config.json and weights, or any hub id, works as well.")


def _table(title: str, *columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for index, column in enumerate(columns):
        table.add_column(column, overflow="fold", no_wrap=index == 0)
    return table


def _builtin() -> Table:
    from rayserve_par.serving.model_store.builtin import (
        BUILTIN_MODELS,
        builtin_folder,
        is_prepared,
    )

    table = _table("Built-in models (made on this machine)", "name", "what it is", "where")
    for name, model in BUILTIN_MODELS.items():
        there = str(builtin_folder(name)) if is_prepared(name) else "not prepared yet"
        table.add_row(name, model.description, there)
    return table


def _shipped() -> Table:
    from rayserve_par.model.known import known_names
    from rayserve_par.serving.model_store.locate import locate_model

    title = "Hub models whose config is shipped (plan needs no network)"
    table = _table(title, "name", "parameters", "active", "precision", "weights", "context")
    for name in known_names():
        spec = locate_model(name, prepare=False).spec
        active = f"{spec.active_parameters / 1e9:.4g}B" if spec.is_moe else "all"
        table.add_row(
            name,
            f"{spec.parameters / 1e9:.4g}B",
            active,
            spec.weight_format.name,
            f"{spec.weight_bytes / 1e9:.4g} GB",
            f"{spec.max_context_tokens:,}",
        )
    return table


def _cached() -> Table:
    from huggingface_hub import constants, scan_cache_dir
    from huggingface_hub.errors import CacheNotFound

    table = _table("Models in the Hugging Face cache", "name", "size", "where")
    try:
        repos = scan_cache_dir(constants.HF_HUB_CACHE).repos
    except CacheNotFound:
        return table
    for repo in sorted(repos, key=lambda repo: repo.repo_id):
        if repo.repo_type == "model":
            size = f"{repo.size_on_disk / 1e9:.3g} GB"
            table.add_row(repo.repo_id, size, str(repo.repo_path))
    return table
