"""What a body must be: a table of bodies and what they are answered."""

import json
import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.serving.admission.args import AdmissionArgs
from rayserve_par.serving.admission.checks import check_body, wants_stream
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


MIB_30 = 30 * 2**20


@pytest.mark.parametrize(
    "body",
    [
        b'{"m":[' + b"0," * (MIB_30 // 2) + b'0],"x":1e100}',
        b'{"prompt":[' + b"0," * (MIB_30 // 2) + b'0],"x":"\\\\u0000"}',
        b'{"m":[' + b"[]," * (MIB_30 // 3) + b"[]]}",
        b'{"m":[' + b"{}," * (MIB_30 // 3) + b"{}]}",
        b'{"m":[' + b'"",' * (MIB_30 // 3) + b'""]}',
        b'{"m":[' + b"1e307," * (MIB_30 // 6) + b"1]}",
        b'{"m":[' + b"[0]," * 125_000 + b"[0]]}",
        b'{"m":"' + (b"9" * 308 + b"e") * (MIB_30 // 309) + b'"',
        b'{"m":' + b"9" * MIB_30 + b"}",
        b'{"m":"' + b"1e999," * (MIB_30 // 6) + b'","n":9}',
    ],
    ids=lambda body: (body[:14] + b".." + body[-12:]).decode(),
)
def test_large_bodies_are_refused_soon(body: bytes) -> None:
    begin = time.process_time()
    refusal = check_body(body, AdmissionArgs())
    seconds = time.process_time() - begin
    assert isinstance(refusal, Refusal)
    assert refusal.status == 400
    assert seconds < (1.0 if b'"",' in body[:20] else 0.4)


@pytest.mark.parametrize("count", [1, 5])
def test_values_are_counted_outside_of_strings(count: int) -> None:
    args = AdmissionArgs(max_json_values=64)
    text = json.dumps({"a": '[,{\\"' * 100, "b": [{}] * (count - 1)}).encode()
    assert isinstance(check_body(text, args), Refusal) is (count == 5)


@pytest.mark.parametrize(
    ("text", "infinite"),
    [
        (b"1e308", False),
        (b"1e309", True),
        (b"1E+0309", True),
        (b"-2e308", True),
        (b"1e-999", False),
        (b"0.001e310", False),
        (b"0.1e310", True),
        (b"23456789012e298", True),
        (b"12345678901e297", False),
        (b"1" * 309 + b".0", False),
        (b"9" * 309 + b".5", True),
        (b"2" * 300 + b"e9", True),
        (b"9" * 309 + b"e-5", False),
        (b'"1e999"', False),
        (b'"\\"1e999"', False),
        (b'"\\\\",1e999', True),
    ],
)
def test_infinity_is_found_where_it_is_a_number(text: bytes, infinite: bool) -> None:
    found = check_body(b'{"a":[' + text + b"]}", ARGS)
    assert isinstance(found, Refusal) is infinite
    assert not isinstance(found, Refusal) or found.code == "invalid_number"


@given(st.text(alphabet='\\"\0u0a,[{1e', max_size=30))
def test_a_nul_is_found_whatever_escapes_are_around_it(text: str) -> None:
    found = check_body(json.dumps({"a": text}).encode(), ARGS)
    assert isinstance(found, Refusal) is ("\0" in text)


@pytest.mark.parametrize(
    ("fields", "code"),
    [
        ({"n": "9"}, "value_above_limit"),
        ({"n": 9.0}, "value_above_limit"),
        ({"n": " +9 "}, "value_above_limit"),
        ({"n": "9.0"}, "value_above_limit"),
        ({"n": 9.5}, None),  # no whole number: the application's to refuse
        ({"n": "8"}, None),
        ({"best_of": "100"}, "value_above_limit"),
        ({"max_tokens": 5e3}, "value_above_limit"),
        ({"max_completion_tokens": "101"}, "value_above_limit"),
        ({"max_output_tokens": "1_000"}, "value_above_limit"),
        ({"messages": [[MESSAGE]] * 5}, "value_above_limit"),
        ({"messages": [MESSAGE] * 5}, None),
        ({"documents": ["a"] * 5}, "value_above_limit"),
        ({"queries": ["a"] * 5}, "value_above_limit"),
        ({"text_1": ["a"] * 5}, "value_above_limit"),
        ({"text_2": ["a"] * 5}, "value_above_limit"),
        ({"items": ["a"] * 5}, "value_above_limit"),
        ({"queries": "a" * 1001}, "context_length_exceeded"),
    ],
    ids=str,
)
def test_limits_read_values_as_vllm_does(fields: dict[str, Any], code: str | None) -> None:
    found = check_body(dump(**fields), ARGS)
    assert (found.code if isinstance(found, Refusal) else None) == code


@pytest.mark.parametrize(
    ("value", "stream"),
    [(True, True), ("true", True), (1, True), ("no", False), (None, False), ([], False)],
)
def test_a_stream_is_asked_for_as_vllm_reads_it(value: Any, stream: bool) -> None:
    assert wants_stream({"stream": value}) is stream
