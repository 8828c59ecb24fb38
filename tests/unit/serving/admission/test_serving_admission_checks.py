"""What a body must be: a table of bodies and what they are answered."""

import json
import time
from typing import Any

import pytest

from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.admission.checks import check_body
from rayserve_par.serving.admission.refusal import Refusal

ARGS = AdmissionArgs(max_prompt_chars=1000, max_n=8, max_output_tokens=100, max_prompts=4)
MESSAGE = {"role": "user", "content": "hi"}


def dump(**fields: Any) -> bytes:
    return json.dumps({"model": "m", **fields}).encode()


@pytest.mark.parametrize(
    "body",
    [
        dump(messages=[MESSAGE]),
        dump(messages=[{**MESSAGE, "role": "developer"}], n=8, max_tokens=100),
        dump(prompt=[1] * 900),  # one prompt of tokens
        dump(prompt=["a"] * 4),
        dump(
            messages=[{"role": "user", "content": [{"type": "image_url", "image_url": "d" * 2000}]}]
        ),
        dump(metadata={"x": "y" * 2000}, prompt="short"),
        dump(prompt="the text \\u0000, escaped"),
        dump(temperature=1e300),
        dump(n=True, max_tokens="many"),  # types are the application's to refuse
        b"{}",
        b'{"a":' + b"[" * 150 + b"]" * 150 + b"}",
        dump(prompt="ä\N{GRINNING FACE}"),
    ],
    ids=lambda body: body[:40].decode(),
)
def test_good_bodies_come_out_as_they_are(body: bytes) -> None:
    assert check_body(body, ARGS) == json.loads(body)


@pytest.mark.parametrize(
    ("body", "code", "param"),
    [
        (b"", "invalid_json", None),
        (b"{", "invalid_json", None),
        (b'{"a": 1} x', "invalid_json", None),
        (b'{"a": NaN}', "invalid_json", None),
        (b'{"a": "\x00"}', "invalid_json", None),
        (b"\x00" * 100, "invalid_json", None),
        (bytes(range(256)) * 100, "invalid_json", None),
        (b'{"a": "\xff"}', "invalid_json", None),
        (rb'{"a": "\ud800"}', "invalid_json", None),
        (b"[]", "invalid_json", None),
        (b'"text"', "invalid_json", None),
        (b"null", "invalid_json", None),
        (b"[" * 100_000, "too_deep", None),
        (b'{"a":' * 100_000, "too_deep", None),
        (rb'{"messages": [{"content": "a\u0000b"}]}', "invalid_character", None),
        (rb'{"\u0000": 1}', "invalid_character", None),
        (b'{"temperature": 1e999}', "invalid_number", None),
        (b'{"a": [{"b": -1.5E+400}]}', "invalid_number", None),
        (b'{"a": ' + b"9" * 400 + b".0}", "invalid_number", None),
        (dump(n=9), "value_above_limit", "n"),
        (dump(n=10**30), "value_above_limit", "n"),
        (dump(best_of=9), "value_above_limit", "best_of"),
        (dump(max_tokens=101), "value_above_limit", "max_tokens"),
        (dump(max_completion_tokens=101), "value_above_limit", "max_completion_tokens"),
        (dump(max_output_tokens=101), "value_above_limit", "max_output_tokens"),
        (dump(prompt=["a"] * 5), "value_above_limit", "prompt"),
        (dump(input=[[1], [2], [3], [4], [5]]), "value_above_limit", "input"),
        (dump(prompt="a" * 1001), "context_length_exceeded", "prompt"),
        (dump(messages=[{"content": "a" * 600}] * 2), "context_length_exceeded", "messages"),
        (
            dump(messages=[{"content": [{"type": "text", "text": "a" * 1001}]}]),
            "context_length_exceeded",
            "messages",
        ),
    ],
    ids=lambda value: value[:40].decode("latin-1") if isinstance(value, bytes) else None,
)
def test_bad_bodies_are_refused_in_openais_form(body: bytes, code: str, param: str | None) -> None:
    refusal = check_body(body, ARGS)
    assert isinstance(refusal, Refusal)
    assert (refusal.status, refusal.code, refusal.param) == (400, code, param)
    assert set(json.loads(refusal.body)["error"]) == {"message", "type", "param", "code"}


def test_the_largest_bad_bodies_take_less_than_100_ms() -> None:
    size = AdmissionArgs().max_body_bytes
    for body in (b"[" * size, b"\x00" * size, b'{"a": "' + b"x" * size, b"\xff" * size):
        begin = time.process_time()
        assert isinstance(check_body(body, ARGS), Refusal)
        assert time.process_time() - begin < 0.1
