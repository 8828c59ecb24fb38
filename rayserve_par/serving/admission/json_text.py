"""What a JSON text's bytes tell before it is parsed, linear in its length and in C.

Strings are cut out first: pairs of backslashes, then escaped quotes are dropped, so that every
quote that is left begins or ends a string. What stays is the text's structure and its numbers. All
of it holds for valid JSON; a text that is not valid is refused by the parser.

Values are counted by what separates them: one more than the commas, and one for each array and
object (at most one too many for each, where it is not empty).

A double ends at about 1.8e308. A numeral of d digits before its point and exponent x is below
10^(d + x), so only d + x >= 309 needs a look: x >= 300, or d >= 10 with x >= 100, or d >= 210.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

_COUNTED_BYTES = 2**20
_MAYBE_INFINITE = re.compile(
    rb"(?<![0-9.])(?:"
    rb"[0-9]{210,}+(?:\.[0-9]++)?+(?:[eE][+-]?[0-9]++)?+"
    rb"|[0-9]{10,}+(?:\.[0-9]++)?+[eE]\+?[0-9]{3,}+"
    rb"|[0-9.]++[eE]\+?0*+(?:[3-9][0-9]{2}|[1-9][0-9]{3})[0-9]*+"
    rb")"
)


@dataclass(frozen=True, slots=True)
class JsonOutline:
    """A JSON text without its strings; `string_bytes` were cut out."""

    text: bytes
    string_bytes: int

    def has_more_than(self, values: int, containers: int) -> bool:
        """Whether there are more values of any kind, or more arrays and objects; ends early."""
        commas = found = 0
        for at in range(0, len(self.text), _COUNTED_BYTES):
            text = self.text[at : at + _COUNTED_BYTES]
            commas += text.count(b",")
            found += text.count(b"[") + text.count(b"{")
            if found > containers or 1 + commas + found > values:
                return True
        return False

    @property
    def has_infinity(self) -> bool:
        """Whether a number that is written as a double is beyond a double's range."""
        for found in _MAYBE_INFINITE.finditer(self.text):
            numeral = found.group()
            if not numeral.isdigit() and math.isinf(float(numeral)):
                return True
        return False


def outline(body: bytes, most_strings: int) -> JsonOutline | None:
    """The outline of `body`, or None where it has more strings than that."""
    plain = body
    if b"\\" in body:
        plain = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    pieces = plain.split(b'"', 2 * most_strings + 1)
    if len(pieces) > 2 * most_strings + 1:
        return None
    text = b'""'.join(pieces[::2])
    return JsonOutline(text, len(body) - len(text))


def has_escaped_nul(body: bytes) -> bool:
    """Whether a string of the valid JSON `body` has a NUL character."""
    escape = b"\\u0000"
    return escape in body and escape in body.replace(b"\\\\", b"")
