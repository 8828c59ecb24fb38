"""Python values as Lua table text, for the settings that the Lua part reads at its start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


def lua_literal(value: object) -> str:
    """`value` as a Lua expression.

    Raises:
        TypeError: Lua has nothing like it.
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return repr(value)
    if isinstance(value, str):
        return '"' + "".join(_escaped(byte) for byte in value.encode()) + '"'
    if isinstance(value, Mapping):
        pairs = (f"[{lua_literal(key)}] = {lua_literal(item)}" for key, item in value.items())
        return "{ " + ", ".join(pairs) + " }"
    if isinstance(value, Sequence):
        return "{ " + ", ".join(lua_literal(item) for item in value) + " }"
    raise TypeError(f"{type(value).__name__} has no Lua form.")


def _escaped(byte: int) -> str:
    return chr(byte) if 32 <= byte < 127 and byte not in b'"\\' else f"\\{byte:03d}"
