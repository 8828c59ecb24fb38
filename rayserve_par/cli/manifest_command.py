"""`rayserve-par manifest`: a config as a KubeRay RayService. Reads no cluster."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from rayserve_par import __version__

if TYPE_CHECKING:
    from rayserve_par.control.config_file import ServeConfig
    from rayserve_par.control.kuberay import PlannedApp

DEFAULT_IMAGE = f"rayserve-par:{__version__}"


def manifest(
    config: Annotated[Path, typer.Argument(help="Serve config file.")],
    image: Annotated[
        str, typer.Option(help="Image with rayserve-par[gpu], for the head and all workers.")
    ] = DEFAULT_IMAGE,
    out: Annotated[Path | None, typer.Option(help="File to write; printed if not given.")] = None,
    model_claim: Annotated[
        str | None,
        typer.Option(help="ReadWriteMany volume claim for models; each node's own disk if none."),
    ] = None,
    keys_secret: Annotated[
        str, typer.Option(help="Secret whose keys.yaml has the API keys (`rayserve-par keys`).")
    ] = "rayserve-par-keys",
    open_: Annotated[
        bool, typer.Option("--open", help="Serve without API keys whoever reaches the pods.")
    ] = False,
) -> None:
    """Write a KubeRay RayService for a config's plan."""
    from rayserve_par.control.config_file import read_config
    from rayserve_par.control.kuberay import ManifestOptions, manifest_text, ray_service

    read = read_config(config)
    document = ray_service(
        config.read_text(encoding="utf-8"),
        read.document.get("http_options") or {},
        _planned(read),
        ManifestOptions(
            name=config.stem,
            image=image,
            model_claim=model_claim,
            keys_secret=None if open_ else keys_secret,
        ),
    )
    text = manifest_text(document, f"configs/{config.name}")
    if out is None:
        typer.echo(text, nl=False)
        return
    out.write_text(text, encoding="utf-8")
    typer.echo(f"Wrote {out}", err=True)


def _planned(read: ServeConfig) -> list[PlannedApp]:
    from rayserve_par.cli.plan_options import plan_on_stated_hardware
    from rayserve_par.control.kuberay import PlannedApp

    return [
        PlannedApp(
            app.name,
            app.args,
            plan_on_stated_hardware(app.args, f"application {app.name} of {read.path}"),
        )
        for app in read.apps
    ]
