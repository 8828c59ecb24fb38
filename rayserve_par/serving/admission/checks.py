"""What a JSON body must be before the application reads it.

Refused with 400: what is no JSON (jiter's rules: UTF-8, no lone surrogates, no NaN, at most 200
levels), no object, has too many values, NUL characters or numbers beyond a double, asks for too
many choices, prompts, characters or tokens. Everything else is the application's to judge.

Numbers are read as vLLM's pydantic models read them, which take "100" and 100.0 for 100.

Text of media (data URLs of images, audio, files) is no prompt text and does not count as
characters; the body's limit in bytes bounds it.
"""

from __future__ import annotations

from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json

from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.admission.json_text import JsonOutline, has_escaped_nul, outline
from rayserve_par.serving.admission.refusal import Refusal

# One prompt may itself be a list of these: of tokens, messages or a response's items.
_ONE_OR_MANY = ("prompt", "input", "messages")
_MANY = ("prompt_embeds", "text_1", "text_2", "queries", "documents", "items", "data_1", "data_2")
_TEXTS = (*_ONE_OR_MANY, *_MANY[1:], "text", "query", "instructions", "system")
_MEDIA = frozenset(
    {"image_url", "input_image", "video_url", "audio_url", "input_audio", "file", "source", "url"}
)
_OUTPUT_TOKENS = ("max_tokens", "max_completion_tokens", "max_output_tokens")
_CHOICES = ("n", "best_of")
_CONTAINERS_SHARE = 16
_INT, _BOOL = TypeAdapter(int), TypeAdapter(bool)


def check_body(body: bytes, args: AdmissionArgs) -> dict[str, Any] | Refusal:
    """The body as an object, or why it is refused."""
    outlined = _outline(body, args.max_json_values)
    if isinstance(outlined, Refusal):
        return outlined
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
    if has_escaped_nul(body):
        return Refusal(400, "The body has NUL characters (\\u0000).", code="invalid_character")
    if outlined.has_infinity:
        return Refusal(400, "The body has a number beyond a double's range.", code="invalid_number")
    return _limits(data, outlined.string_bytes, args) or data


def _outline(body: bytes, most: int) -> JsonOutline | Refusal:
    containers = most // _CONTAINERS_SHARE
    outlined = outline(body, most)
    if outlined is not None and not outlined.has_more_than(most, containers):
        return outlined
    return Refusal(
        400,
        f"The body has more than the {most} values, of which {containers} arrays and objects, "
        "that this server takes.",
        code="too_many_values",
    )


def wants_stream(data: dict[str, Any]) -> bool:
    """Whether the answer is to be a stream."""
    value = data.get("stream")
    if value is None or isinstance(value, bool):
        return bool(value)
    try:
        return _BOOL.validate_python(value)
    except ValidationError:
        return False


def _limits(data: dict[str, Any], string_bytes: int, args: AdmissionArgs) -> Refusal | None:
    for param in _CHOICES:
        value = _integer(data, param)
        if value > args.max_n:
            return _above(param, value, args.max_n)
    if args.max_output_tokens is not None:
        for param in _OUTPUT_TOKENS:
            value = _integer(data, param)
            if value > args.max_output_tokens:
                return _above(param, value, args.max_output_tokens)
    refusal = _too_many_prompts(data, args.max_prompts)
    longest = args.max_prompt_chars
    if refusal is None and longest is not None and string_bytes > longest:
        characters = sum(_characters(data.get(param)) for param in _TEXTS)
        if characters > longest:
            return Refusal(
                400,
                f"The prompt has {characters} characters; this server takes {longest} at most.",
                param=next(param for param in _TEXTS if param in data),
                code="context_length_exceeded",
            )
    return refusal


def _too_many_prompts(data: dict[str, Any], most: int) -> Refusal | None:
    for param in (*_ONE_OR_MANY, *_MANY):
        values = data.get(param)
        if not isinstance(values, list) or len(values) <= most:
            continue
        if param in _MANY or isinstance(values[0], str | list):
            return _above(param, len(values), most, "prompts")
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
    """The value as a whole number, else 0: what cannot be one is the application's to refuse."""
    value = data.get(param)
    if value is None or isinstance(value, int):
        return value or 0
    try:
        return _INT.validate_python(value)
    except ValidationError:
        return 0


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
