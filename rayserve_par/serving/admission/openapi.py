"""The OpenAPI document of what clients may use, of all that the application has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rayserve_par.serving.admission.paths import is_public

if TYPE_CHECKING:
    from fastapi import FastAPI


def describe_public_paths(app: FastAPI) -> None:
    """Leave the paths out of `/openapi.json` (and so of `/docs`) that are 404 on the data port."""
    describe = app.openapi

    def openapi() -> dict[str, Any]:
        document = describe()
        paths = {path: item for path, item in document["paths"].items() if is_public(path)}
        return {**document, "paths": paths}

    app.openapi = openapi  # type: ignore[method-assign]
