"""GPUs that the user adds or overrides, from a mapping that YAML or JSON was read into.

    H100:                          # known: only what is written changes
      price_per_hour_usd: 2.10
      usable_gib: {value: 78.9, source: measured in our cluster}
    H100-shared:                   # new, else like its base
      base: H100
      nvlink: false
      link_gb_per_second: 64

A new GPU without a base states every value that has no default. Values are the user's word:
their source is "user" unless one is named, for a value or, as `source`, for the entry.
"""

import re
from collections.abc import Mapping
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.catalogue import Catalogue, shipped_catalogue
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.hardware.gpu_entry import (
    ENTRY_KEYS,
    as_mapping,
    gpu_from_entry,
    refuse_unknown_keys,
)

_ENTRY_ONLY = ("base", "source")


def _text(where: str, key: str, found: object) -> str:
    if not isinstance(found, str):
        raise RefusedError(f"{where}: {key} must be text, found {found!r}.")
    return found


def _user_gpu(name: str, entry: Mapping[str, Any], catalogue: Catalogue) -> Gpu:
    where = f"GPU {name}"
    refuse_unknown_keys(where, entry, (*_ENTRY_ONLY, *ENTRY_KEYS))
    source = _text(where, "source", entry.get("source", "user"))
    facts = {key: found for key, found in entry.items() if key not in _ENTRY_ONLY}
    if "base" in entry:
        base = catalogue.gpu(_text(where, "base", entry["base"]))
        return gpu_from_entry(name, facts, source=source, base=base)
    known = catalogue.find(name)
    return gpu_from_entry(known.name if known else name, facts, source=source, base=known)


def catalogue_from_mapping(mapping: Mapping[str, Any], onto: Catalogue | None = None) -> Catalogue:
    """The shipped catalogue (or `onto`) with the GPUs of `mapping` (name -> entry) put over it.

    Entries are read in order, so that a later one may be based on an earlier. Raises RefusedError
    for unknown keys, bases that are not known, values of the wrong kind and values that lack.
    """
    catalogue = onto or shipped_catalogue()
    for name, entry in as_mapping("gpus", mapping).items():
        # The short form of clusters ("2x8xH200") must be able to write it.
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z][\w \-]*", name):
            raise RefusedError(
                f"gpus: {name!r} is not a GPU's name: a letter, then letters, digits, spaces, _ "
                "and - are wanted."
            )
        catalogue = catalogue.with_gpu(_user_gpu(name, as_mapping(f"GPU {name}", entry), catalogue))
    return catalogue
