"""What a JSON body must be before the application reads it. Each answer takes milliseconds.

Refused with 400: what is no JSON (jiter's rules: UTF-8, no lone surrogates, no NaN, at most 200
levels), no object, has NUL characters or numbers beyond a double, asks for too many choices,
prompts, characters or tokens. Everything else is the application's to judge.

Text of media (data URLs of images, audio, files) is no prompt text and does not count as
characters; the body's limit in bytes bounds it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from pydantic_core import from_json

from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.admission.refusal import Refusal

_PROMPTS = ("messages", "prompt", "input", "text", "text_1", "text_2", "query", "documents")
_MEDIA = frozenset(
    {"image_url", "input_image", "video_url", "audio_url", "input_audio", "file", "source", "url"}
)
_OUTPUT_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHOICES = ("n", "best_of")
# A double ends at about 1.8e308; shorter numbers are finite without a look.
_MAYBE_INFINITE = re.compile(rb"[0-9.][eE]\+?[0-9]{3}|[0-9]{309}")
_ESCAPED_NUL = b"\\u0000"


def check_body(body: bytes, args: AdmissionArgs) -> dict[str, Any] | Refusal:
    """The body as an object, or why it is refused."""
    try:
        data = from_json(body, allow_inf_nan=False, cache_strings="none")
    except ValueError as error:
        deep = "recursion" in str(error)
        return Refusal(
            400,
            f"The body is {'nested too deeply' if deep else 'not valid JSON'}: {error}.",
            code="too_deep" if deep else "invalid_json",
        )
    if not isinstance(data, dict):
        return Refusal(
            400, f"The body must be a JSON object, not {_kind(data)}.", code="invalid_json"
        )
    if _ESCAPED_NUL in body and any("\0" in text for text in _strings(data)):
        return Refusal(400, "The body has NUL characters (\\u0000).", code="invalid_character")
    if _MAYBE_INFINITE.search(body) and any(map(math.isinf, _floats(data))):
        return Refusal(400, "The body has a number beyond a double's range.", code="invalid_number")
    return _limits(data, body, args) or data


def _limits(data: dict[str, Any], body: bytes, args: AdmissionArgs) -> Refusal | None:
    for param in _CHOICES:
        value = _integer(data, param)
        if value > args.max_n:
            return _above(param, value, args.max_n)
    if args.max_output_tokens is not None:
        for param in _OUTPUT_TOKENS:
            value = _integer(data, param)
            if value > args.max_output_tokens:
                return _above(param, value, args.max_output_tokens)
    for param in ("prompt", "input"):
        values = data.get(param)
        if not isinstance(values, list) or len(values) <= args.max_prompts:
            continue
        if isinstance(values[0], str | list):  # numbers are the tokens of one prompt
            return _above(param, len(values), args.max_prompts, "prompts")
    longest = args.max_prompt_chars
    if longest is not None and len(body) > longest:
        characters = sum(_characters(data.get(param)) for param in _PROMPTS)
        if characters > longest:
            return Refusal(
                400,
                f"The prompt has {characters} characters; this server takes {longest} at most.",
                param=next(param for param in _PROMPTS if param in data),
                code="context_length_exceeded",
            )
    return None


def _above(param: str, value: int, limit: int, unit: str = "") -> Refusal:
    counted = f"{value} {unit}".rstrip()
    return Refusal(
        400,
        f"{param} is {counted}; this server takes {limit} at most.",
        param=param,
        code="value_above_limit",
    )


def _integer(data: dict[str, Any], param: str) -> int:
    """The value if it is a whole number, else 0; wrong types are the application's to refuse."""
    value = data.get(param)
    return value if isinstance(value, int) and not isinstance(value, bool) else 0


def _kind(data: object) -> str:
    names = {list: "an array", str: "a string", bool: "a boolean", type(None): "null"}
    return names.get(type(data), "a number")


def _characters(value: Any) -> int:
    if isinstance(value, str):
        return len(value)
    if isinstance(value, list):
        return sum(map(_characters, value))
    if isinstance(value, dict):
        return sum(_characters(inner) for key, inner in value.items() if key not in _MEDIA)
    return 0


def _leaves(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield key
            yield from _leaves(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _leaves(inner)
    else:
        yield value


def _strings(value: Any) -> Iterator[str]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, str))


def _floats(value: Any) -> Iterator[float]:
    return (leaf for leaf in _leaves(value) if isinstance(leaf, float))
