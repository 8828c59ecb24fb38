"""Configs shipped with the package, so that `plan` needs no network for these models.

Each file is the published `config.json`, cut to the fields that sizing reads; `_source` says
where it is from and `_changed` what was cut beyond that.
"""

import json
from importlib.resources import files
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.model.hf_config import model_spec_from_config
from rayserve_par.model.spec import ModelSpec

_FOLDER = "known"


def _file_name(name: str) -> str:
    return name.replace("/", "--") + ".json"


def known_names() -> tuple[str, ...]:
    """Hub names of the models whose config is shipped."""
    folder = files(__package__).joinpath(_FOLDER)
    names = (entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    return tuple(sorted(name.removesuffix(".json").replace("--", "/") for name in names))


def known_config(name: str) -> dict[str, Any] | None:
    """The shipped config of the model with this hub name; None where there is none."""
    if name not in known_names():
        return None
    text = files(__package__).joinpath(_FOLDER, _file_name(name)).read_text(encoding="utf-8")
    config: dict[str, Any] = json.loads(text)
    return config


def known_model(name: str) -> ModelSpec:
    """The model of this hub name, from its shipped config. Raises RefusedError where none is."""
    config = known_config(name)
    if config is None:
        raise RefusedError(
            f"no config of {name!r} is shipped. Shipped: {', '.join(known_names())}. Read another "
            "with model_spec_from_config."
        )
    return model_spec_from_config(config, name)
