"""What no client should send, and what nobody may: refused at once, in OpenAI's error form."""

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from raw import Answer, fastest, head, send
from served import KEY, MODEL, TINY, TINY_URL

MOST_SECONDS = 0.1
CHAT, TEXT, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
TINY_PATH = urlsplit(TINY_URL).path
MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


def body(**fields: Any) -> bytes:
    return json.dumps({"model": TINY, "messages": MESSAGES, "max_tokens": 1, **fields}).encode()


def check_refused(answer: Answer, *statuses: int, timed: bool = True) -> None:
    assert answer.status in statuses, answer.body[:500]
    assert answer.content_type.startswith("application/json")
    error = answer.error
    assert {"message", "type", "param", "code"} <= error.keys()
    assert error["message"]
    if timed:
        assert answer.seconds < MOST_SECONDS


def post(content: bytes, path: str = CHAT, content_type: str | None = "application/json") -> bytes:
    return head("POST", path, len(content), content_type) + content


MALFORMED = {
    "empty": b"",
    "a brace": b"{",
    "cut short": body()[:-5],
    "trailing comma": b'{"model": "tiny-llama",}',
    "single quotes": b"{'model': 'tiny-llama'}",
    "two documents": body() + body(),
    "words": b"hello",
    "NaN": body()[:-1] + b', "temperature": NaN}',
    "infinity": body()[:-1] + b', "temperature": 1e999}',
    "binary": bytes(range(256)) * 4,
    "not UTF-8": body().replace(b"hi", b"\xff\xfe\xfa"),
    "UTF-16": body().decode().encode("utf-16"),
    "gzip without saying so": b"\x1f\x8b\x08\x00" + bytes(60),
    "NUL byte": body().replace(b"hi", b"h\0i"),
    "escaped NUL": body().replace(b"hi", b"h\\u0000i"),
    "lone surrogate": body().replace(b"hi", b"\\ud800"),
    "an array": b"[" + body() + b"]",
    "a number": b"5",
    "null": b"null",
    "a string": b'"tiny-llama"',
}


@pytest.mark.parametrize("content", MALFORMED.values(), ids=MALFORMED.keys())
@pytest.mark.parametrize("path", [CHAT, TEXT, RESPONSES])
def test_malformed(path: str, content: bytes) -> None:
    check_refused(fastest(post(content, path)), 400)


MISTYPED: dict[str, dict[str, Any]] = {
    "model of a number": {"model": 5},
    "model of a list": {"model": [TINY]},
    "model of null": {"model": None},
    "messages of null": {"messages": None},
    "messages of an object": {"messages": {"role": "user"}},
    "messages of strings": {"messages": ["hi"]},
    "no messages": {"messages": []},
    "unknown role": {"messages": [{"role": "wizard", "content": {"a": 1}}]},
    "content of a number": {"messages": [{"role": "user", "content": 5}]},
    "content part without type": {"messages": [{"role": "user", "content": [{"text": "hi"}]}]},
    "unknown content part": {"messages": [{"role": "user", "content": [{"type": "smell"}]}]},
    "temperature of text": {"temperature": "hot"},
    "temperature below 0": {"temperature": -0.1},
    "max_tokens of 1e400": {"max_tokens": 10**400},
    "max_tokens of a list": {"max_tokens": [1]},
    "max_tokens below 0": {"max_tokens": -5},
    "n of 10**9": {"n": 10**9},
    "n of 0": {"n": 0},
    "top_p of 5": {"top_p": 5},
    "logit_bias of words": {"logit_bias": {"word": 1}},
    "stop of numbers": {"stop": [1, 2]},
    "stream of text": {"stream": "perhaps"},
    "tools of text": {"tools": "hammer"},
    "tool without name": {"tools": [{"type": "function", "function": {}}]},
    "unknown tool choice": {
        "tools": [{"type": "function", "function": {"name": "a", "parameters": {}}}],
        "tool_choice": {"type": "function", "function": {"name": "b"}},
    },
    "unknown response format": {"response_format": {"type": "haiku"}},
    "schema of a number": {
        "response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 5}}
    },
    "stream_options without stream": {"stream_options": {"include_usage": True}},
    "longer than the context": {"messages": [{"role": "user", "content": "word " * 5000}]},
}


@pytest.mark.parametrize("fields", MISTYPED.values(), ids=MISTYPED.keys())
def test_mistyped(fields: dict[str, Any]) -> None:
    check_refused(fastest(post(body(**fields))), 400, 404)


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(b"[" * 100_000, id="100,000 open brackets"),
        pytest.param(b'{"a":' * 100_000, id="100,000 open objects"),
        pytest.param(body(metadata=None)[:-5] + b"[" * 5000 + b"]" * 5000 + b"}", id="5000 levels"),
    ],
)
def test_deep(content: bytes) -> None:
    check_refused(fastest(post(content)), 400)


def test_deep_schema() -> None:
    """Within what JSON may be, and nothing that a grammar should be made of."""
    schema: dict[str, Any] = {"type": "string"}
    for _ in range(60):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    asked = {"type": "json_schema", "json_schema": {"name": "deep", "schema": schema}}
    answer = send(post(body(response_format=asked)))
    assert answer.status in {200, 400}


def test_huge_that_is_declared() -> None:
    """Refused by its Content-Length; nothing of it is sent."""
    check_refused(fastest(head("POST", CHAT, 200 * 2**20)), 413)


def test_huge_that_is_sent() -> None:
    check_refused(send(post(body(user="x" * (34 * 2**20)))), 413, timed=False)


def test_huge_in_chunks() -> None:
    """Its length is nowhere declared."""
    chunk = b"%x\r\n" % 2**20 + b"x" * 2**20 + b"\r\n"
    start = head("POST", CHAT, None, more=("Transfer-Encoding: chunked",))
    check_refused(send(start + chunk * 40 + b"0\r\n\r\n"), 413, timed=False)


def test_long_prompt() -> None:
    """5 MB of text: counted, not tokenized."""
    long = body(messages=[{"role": "user", "content": "word " * 2**20}])
    check_refused(send(post(long)), 400, timed=False)


def test_many_prompts() -> None:
    content = json.dumps({"model": TINY, "prompt": ["a"] * 100_000, "max_tokens": 1}).encode()
    check_refused(fastest(post(content, TEXT)), 400)


def test_many_keys() -> None:
    content = body(**{f"key{i}": i for i in range(50_000)})
    answer = send(post(content))
    assert answer.status in {200, 400}


@pytest.mark.parametrize(
    "content_type",
    [
        "text/plain",
        "application/xml",
        "multipart/form-data; boundary=a",
        "application/octet-stream",
    ],
)
def test_wrong_content_type(content_type: str) -> None:
    check_refused(fastest(post(b"<a/>", content_type=content_type)), 400, 415)


def test_no_content_type() -> None:
    answer = fastest(post(body(), content_type=None))
    if answer.status != 200:
        check_refused(answer, 400, 415)


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH"])
@pytest.mark.parametrize("path", [CHAT, TEXT])
def test_wrong_method(method: str, path: str) -> None:
    check_refused(fastest(head(method, path, 0)), 404, 405)


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/v1",
        "/v1/",
        "/v1/chat",
        "/v1/../metrics",
        "/v1/%2e%2e/metrics",
        "//metrics",
        "/metrics",
        "/tiny/metrics",
        "/internal/front",
        "/tiny/internal/front",
        "/load",
        "/server_info",
        "/sleep",
        "/wake_up",
        "/collective_rpc",
        "/start_profile",
        "/stop_profile",
        "/reset_prefix_cache",
        "/v1/load_lora_adapter",
        "/v1/unload_lora_adapter",
        "/tiny/v1/%6coad_lora_adapter",
        "/v1/chat/completions%00",
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_no_such_path(method: str, path: str) -> None:
    check_refused(fastest(post(body(), path) if method == "POST" else head("GET", path, None)), 404)


def test_slash_at_the_end() -> None:
    """FastAPI's way: to the path without it, on this server."""
    answer = send(post(body(), f"{CHAT}/"))
    assert answer.status == 307
    assert urlsplit(answer.location).path in {CHAT, f"{TINY_PATH}{CHAT}"}
    assert urlsplit(answer.location).netloc in {"", "front"}


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GARBAGE\r\n\r\n", id="no request line"),
        pytest.param(b"POST /v1/models HTTP/9.9\r\nHost: a\r\n\r\n", id="HTTP/9.9"),
        pytest.param(
            head("POST", CHAT, None, more=("Content-Length: -1",)), id="negative Content-Length"
        ),
        pytest.param(
            head("POST", CHAT, 5, more=("Content-Length: 6",)) + b"hello!", id="two lengths"
        ),
        pytest.param(head("GET", "/v1/models", None, more=("X-A: a\0b",)), id="NUL in a header"),
        pytest.param(
            head("POST", CHAT, None, more=("Transfer-Encoding: chunked",)) + b"zz\r\n",
            id="broken chunk",
        ),
    ],
)
def test_broken_http(data: bytes) -> None:
    check_no_http(fastest(data))


def test_huge_header() -> None:
    check_no_http(fastest(head("GET", "/v1/models", None, more=("X-A: " + "a" * 2**20,))))


def check_no_http(answer: Answer) -> None:
    """Refused by HAProxy's parser, with its own page: release 2.8 asks no errorfile there."""
    assert answer.status == 400
    assert answer.seconds < MOST_SECONDS


def test_slow_body_is_cut() -> None:
    """Half a body and then nothing: refused when its time is over, not held forever."""
    content = body()
    check_refused(send(head("POST", CHAT, len(content)) + content[:10]), 408, timed=False)


@pytest.mark.parametrize("header", ["Authorization: Basic abc", "Authorization: Bearer"])
def test_keys_of_another_form(header: str) -> None:
    request = head("POST", CHAT, len(body())) + body()
    swapped = request.replace(f"Authorization: Bearer {KEY}".encode(), header.encode())
    check_refused(fastest(swapped), 401)


def test_no_key() -> None:
    request = head("POST", CHAT, len(body())) + body()
    check_refused(fastest(request.replace(f"Authorization: Bearer {KEY}\r\n".encode(), b"")), 401)


def test_client_cannot_pose_as_the_front() -> None:
    more = ("x-rayserve-par-front: 1", "x-rayserve-par-instance: other")
    request = head("POST", CHAT, len(body()), more=more) + body()
    check_refused(fastest(request.replace(KEY.encode(), b"wrong")), 401)


@pytest.mark.parametrize("role", ["developer", "system", "user", "assistant"])
@pytest.mark.parametrize("model", [MODEL, TINY])
def test_known_roles(model: str, role: str) -> None:
    messages = [{"role": role, "content": "Be brief."}, *MESSAGES]
    assert send(post(body(model=model, messages=messages))).status == 200


def test_still_there() -> None:
    """After all of that: an answer."""
    assert send(post(body())).status == 200
