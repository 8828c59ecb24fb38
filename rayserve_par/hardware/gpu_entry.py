"""An entry of a catalogue, shipped or the user's, turned into a Gpu.

An entry maps keys to a value, or to {"value": ..., "source": ...}. Keys carry the units in which
data sheets speak (GB/s, TFLOP/s); a Gpu carries SI units.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from math import isfinite
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu


@dataclass(frozen=True, slots=True)
class EntryKey:
    """A key of an entry: the Gpu's field, what is accepted, and the factor to the Gpu's unit."""

    field: str
    kind: type[bool] | type[int] | type[float] | type[str]
    factor: float = 1.0
    may_be_none: bool = False


ENTRY_KEYS: dict[str, EntryKey] = {
    "generation": EntryKey("generation", str),
    "compute_capability": EntryKey("compute_capability", str),
    "memory_gb": EntryKey("memory_gb", float),
    "usable_gib": EntryKey("usable_gib", float),
    "hbm_gb_per_second": EntryKey("hbm_bytes_per_second", float, 1e9),
    "bf16_tflops": EntryKey("bf16_flops", float, 1e12),
    "fp8_tflops": EntryKey("fp8_flops", float, 1e12, may_be_none=True),
    "fp4_tflops": EntryKey("fp4_flops", float, 1e12, may_be_none=True),
    "nvlink": EntryKey("nvlink", bool),
    "nvlink_domain_gpus": EntryKey("nvlink_domain_gpus", int),
    "link_gb_per_second": EntryKey("link_bytes_per_second", float, 1e9),
    "gpus_per_node": EntryKey("gpus_per_node", int),
    "nic_gb_per_second": EntryKey("nic_bytes_per_second", float, 1e9),
    "price_per_hour_usd": EntryKey("price_per_hour_usd", float, may_be_none=True),
    "engine_backend": EntryKey("engine_backend", str),
}
_BACKENDS = ("cuda", "rocm", "cpu")
# What a new GPU need not state.
_DEFAULTS: dict[str, Any] = {
    "generation": "not stated",
    "compute_capability": "not stated",
    "fp8_flops": None,
    "fp4_flops": None,
    "price_per_hour_usd": None,
    "engine_backend": "cuda",
}
_WANTED = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}


def as_mapping(where: str, found: object) -> Mapping[str, Any]:
    """`found`, if it is a mapping; RefusedError otherwise."""
    if not isinstance(found, Mapping):
        raise RefusedError(f"{where}: keys with values are wanted, found {found!r}.")
    return found


def refuse_unknown_keys(where: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    """Raise RefusedError for a key that is not known, with the nearest of those that are."""
    for key in found:
        if key not in known:
            near = get_close_matches(str(key), known, n=3, cutoff=0.5)
            hint = f"Nearest: {', '.join(near)}. " if near else ""
            raise RefusedError(
                f"{where}: key {key!r} is not known. {hint}Known: {', '.join(known)}."
            )


def _yaml_hint(found: object) -> str:
    """YAML 1.1 reads 3e3 as text, since the exponent lacks a sign."""
    if isinstance(found, str) and re.fullmatch(r"\d+(\.\d+)?[eE]\d+", found):
        return f" YAML reads it as text: write {float(found):.12g}."
    return ""


def entry_value(where: str, key: str, found: object) -> Any:
    """The value of one key in the Gpu's unit; RefusedError where it is of the wrong kind."""
    wanted = ENTRY_KEYS[key]
    if found is None and wanted.may_be_none:
        return None
    kinds = (int, float) if wanted.kind is float else (wanted.kind,)
    # bool is a subclass of int, so that `nodes: true` would count as 1.
    right = isinstance(found, kinds) and isinstance(found, bool) is (wanted.kind is bool)
    if not right or (isinstance(found, float) and not isfinite(found)):
        or_none = " or nothing" if wanted.may_be_none else ""
        raise RefusedError(
            f"{where}: {key} must be {_WANTED[wanted.kind]}{or_none}, found {found!r}."
            f"{_yaml_hint(found)}"
        )
    if key == "engine_backend" and found not in _BACKENDS:
        raise RefusedError(
            f"{where}: engine_backend {found!r} is not one of {', '.join(_BACKENDS)}."
        )
    return found * wanted.factor if wanted.kind is float else found  # type: ignore[operator]


def _with_source(where: str, found: object, source: str) -> tuple[object, str]:
    if not isinstance(found, Mapping):
        return found, source
    refuse_unknown_keys(where, found, ("value", "source"))
    if "value" not in found:
        raise RefusedError(f"{where}: {dict(found)!r} lacks its value.")
    stated = found.get("source", source)
    if not isinstance(stated, str):
        raise RefusedError(f"{where}: source must be text, found {stated!r}.")
    return found["value"], stated


def gpu_from_entry(
    name: str, entry: Mapping[str, Any], *, source: str, base: Gpu | None = None
) -> Gpu:
    """The Gpu of this entry; what it does not say is `base`'s.

    `source` is where values are from that state none. Raises RefusedError for unknown keys, values
    of the wrong kind, and, without a base, for keys that lack.
    """
    where = f"GPU {name}"
    refuse_unknown_keys(where, entry, tuple(ENTRY_KEYS))
    values: dict[str, Any] = {}
    sources: dict[str, str] = {} if base is None else dict(base.sources)
    for key, found in entry.items():
        raw, stated = _with_source(f"{where}: {key}", found, source)
        field = ENTRY_KEYS[key].field
        values[field] = entry_value(where, key, raw)
        sources[field] = stated
    pairs = tuple(sources.items())
    if base is not None:
        return replace(base, name=name, source=source, sources=pairs, **values)
    values = _DEFAULTS | values
    lacking = [key for key, wanted in ENTRY_KEYS.items() if wanted.field not in values]
    if lacking:
        raise RefusedError(
            f"{where} is new and lacks {', '.join(lacking)}. State them, or name the GPU that it "
            "resembles: base: H100."
        )
    return Gpu(name=name, source=source, sources=pairs, **values)
