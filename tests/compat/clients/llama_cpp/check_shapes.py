"""The same requests to us and to llama.cpp's server, with the same model: same shapes.

A shape is the set of a JSON document's paths with the JSON type at each; items of a list count as
one. What llama.cpp answers we must answer as well, with the same types, but for what it adds to
OpenAI's API of its own (`THEIRS`). Texts may differ: its weights are in four bits.
"""

import json
import os
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
import xllamacpp
from served import KEY, MODEL, URL

THEIRS = (
    "timings",
    "__verbose",
    "generation_settings",
    "tokens_cached",
    "tokens_evaluated",
    "logprobs.content[].id",
    "top_logprobs[].id",
)
# Given by one side only where it has something to say.
OPTIONAL = ("system_fingerprint", "prompt_tokens_details", "completion_tokens_details")
CHAT, TEXT = "/v1/chat/completions", "/v1/completions"
MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
        },
    },
}
SHORT: dict[str, Any] = {"max_tokens": 8, "temperature": 0}
CHATS: list[Any] = [
    pytest.param(CHAT, {"messages": MESSAGES}, id="chat"),
    pytest.param(
        CHAT, {"messages": [{"role": "system", "content": "Be brief."}, *MESSAGES]}, id="system"
    ),
    pytest.param(
        CHAT,
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "hi"}]}]},
        id="content parts",
    ),
    pytest.param(CHAT, {"messages": MESSAGES, "stop": ["Paris"]}, id="stop"),
    pytest.param(CHAT, {"messages": MESSAGES, "max_tokens": 1}, id="length"),
    pytest.param(CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2}, id="logprobs"),
    pytest.param(
        CHAT,
        {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "required", "max_tokens": 48},
        id="required tool",
    ),
    pytest.param(
        CHAT,
        {"messages": MESSAGES, "response_format": {"type": "json_object"}, "max_tokens": 48},
        id="JSON object",
    ),
    pytest.param(TEXT, {"prompt": "The capital of France is"}, id="completion"),
    pytest.param(TEXT, {"prompt": ["one", "two"]}, id="two prompts"),
]
STREAMS: list[Any] = [
    pytest.param(CHAT, {"messages": MESSAGES}, id="chat"),
    pytest.param(
        CHAT,
        {"messages": MESSAGES, "stream_options": {"include_usage": True}},
        id="chat with usage",
    ),
    pytest.param(CHAT, {"messages": MESSAGES, "logprobs": True, "top_logprobs": 2}, id="logprobs"),
    pytest.param(
        CHAT,
        {"messages": MESSAGES, "tools": [TOOL], "tool_choice": "required", "max_tokens": 48},
        id="required tool",
    ),
    # Without the option llama.cpp gives the usage too; OpenAI does not.
    pytest.param(
        TEXT,
        {"prompt": "The capital of France is", "stream_options": {"include_usage": True}},
        id="completion with usage",
    ),
]
ERRORS: list[Any] = [
    pytest.param(CHAT, b"{", id="malformed JSON"),
    pytest.param(CHAT, b"{}", id="no messages"),
    pytest.param(CHAT, b'{"messages": 5}', id="messages of a number"),
    pytest.param(
        CHAT,
        json.dumps({"messages": [{"role": "user", "content": "word " * 9000}]}).encode(),
        id="longer than the context",
    ),
    pytest.param(TEXT, b"{}", id="no prompt"),
    pytest.param("/v1/no-such-path", b"{}", id="unknown path"),
]


@pytest.fixture(scope="session")
def llama_cpp() -> Iterator[httpx.Client]:
    params = xllamacpp.CommonParams()
    params.model.path = os.environ["COMPAT_GGUF"]
    params.model_alias = {MODEL}
    params.n_ctx = 4096
    params.n_parallel = 1
    params.warmup = False
    server = xllamacpp.Server(params)
    with httpx.Client(base_url=server.listening_address, timeout=120) as client:
        yield client


@pytest.fixture(scope="session")
def ours() -> Iterator[httpx.Client]:
    headers = {"Authorization": f"Bearer {KEY}"}
    with httpx.Client(base_url=URL, timeout=120, headers=headers) as client:
        yield client


def shape(value: Any, path: str = "") -> dict[str, set[str]]:
    """JSON types by path."""
    kinds = {
        dict: "object", list: "list", str: "string", bool: "boolean", int: "number",
        float: "number", type(None): "null",
    }  # fmt: skip
    found = {path: {kinds[type(value)]}}
    inner = (
        [(f"{path}.{key}", item) for key, item in value.items()]
        if isinstance(value, dict)
        else [(f"{path}[]", item) for item in value]
        if isinstance(value, list)
        else []
    )
    for place, item in inner:
        for below, types in shape(item, place).items():
            found.setdefault(below, set()).update(types)
    return found


def check_shapes(ours: dict[str, set[str]], theirs: dict[str, set[str]]) -> None:
    """What they have we have, with a type that they have too; null is any type."""
    skipped = {path for path in theirs if any(word in path for word in (*THEIRS, *OPTIONAL))}
    missing = [
        path
        for path in theirs
        if path not in ours and path not in skipped and theirs[path] != {"null"}
    ]
    # What is below a value that is null on one side cannot be compared.
    missing = [path for path in missing if "null" not in ours.get(parent(path), set())]
    assert not missing, f"llama.cpp has, we have not: {missing}"
    for path in (theirs.keys() & ours.keys()) - skipped:
        both = (ours[path] | theirs[path]) - {"null"}
        assert len(both) <= 1, f"{path}: ours {ours[path]}, llama.cpp's {theirs[path]}"


def parent(path: str) -> str:
    return path.removesuffix("[]") if path.endswith("[]") else path.rpartition(".")[0]


def events(client: httpx.Client, path: str, body: dict[str, Any]) -> list[Any]:
    """The stream's chunks; the last event must be [DONE]."""
    with client.stream("POST", path, json=body) as answer:
        assert answer.status_code == 200, answer.read()
        assert answer.headers["content-type"].startswith("text/event-stream")
        lines = [line.removeprefix("data: ") for line in answer.iter_lines() if line.strip()]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1] if not line.startswith(":")]


@pytest.mark.parametrize(("path", "asked"), CHATS)
def test_answers(
    ours: httpx.Client, llama_cpp: httpx.Client, path: str, asked: dict[str, Any]
) -> None:
    body = {"model": MODEL, **SHORT, **asked}
    if isinstance(asked.get("prompt"), list):  # llama.cpp answers a list with a list
        answer = ours.post(path, json=body)
        assert len(answer.json()["choices"]) == len(asked["prompt"])
        return
    answers = [client.post(path, json=body) for client in (ours, llama_cpp)]
    assert [answer.status_code for answer in answers] == [200, 200]
    mine, theirs = (answer.json() for answer in answers)
    check_shapes(shape(mine), shape(theirs))
    assert mine["object"] == theirs["object"]
    assert mine["choices"][0]["index"] == theirs["choices"][0]["index"]


@pytest.mark.parametrize(("path", "asked"), STREAMS)
def test_streams(
    ours: httpx.Client, llama_cpp: httpx.Client, path: str, asked: dict[str, Any]
) -> None:
    body = {"model": MODEL, **SHORT, **asked, "stream": True}
    mine, theirs = (events(client, path, body) for client in (ours, llama_cpp))
    assert {chunk["object"] for chunk in mine} == {chunk["object"] for chunk in theirs}
    check_shapes(shape(mine), shape(theirs))
    for chunks in (mine, theirs):
        finished = [
            choice["finish_reason"]
            for chunk in chunks
            for choice in chunk["choices"]
            if choice.get("finish_reason")
        ]
        assert len(finished) == 1
        if path == CHAT:
            assert chunks[0]["choices"][0]["delta"]["role"] == "assistant"


@pytest.mark.parametrize(("path", "body"), ERRORS)
def test_errors(ours: httpx.Client, llama_cpp: httpx.Client, path: str, body: bytes) -> None:
    if body.startswith(b'{"'):
        body = json.dumps({"model": MODEL, **json.loads(body)}).encode()
    headers = {"Content-Type": "application/json"}
    answers = [client.post(path, content=body, headers=headers) for client in (ours, llama_cpp)]
    mine, theirs = (answer.json()["error"] for answer in answers)
    assert 400 <= answers[0].status_code < 500
    assert {"message", "type", "code", "param"} <= mine.keys()
    assert {"message", "type", "code"} <= theirs.keys()
    assert type(mine["message"]) is type(theirs["message"]) is str
    assert type(mine["type"]) is type(theirs["type"]) is str


def test_models(ours: httpx.Client, llama_cpp: httpx.Client) -> None:
    mine, theirs = (client.get("/v1/models").json() for client in (ours, llama_cpp))
    assert mine["object"] == theirs["object"] == "list"
    for model in (*mine["data"], *theirs["data"]):
        assert model["object"] == "model"
        assert isinstance(model["id"], str)
        assert isinstance(model["created"], int)
        assert isinstance(model["owned_by"], str)
