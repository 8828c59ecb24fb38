"""Which exception each refusal becomes, and what it carries."""

import contextlib
from typing import Any

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from served import BASE_URL, KEY, LIMITED_KEY, MODEL, TINY, TINY_ONLY_KEY

MESSAGES: list[Any] = [{"role": "user", "content": "hi"}]


def connect(key: str = KEY) -> OpenAI:
    return OpenAI(base_url=BASE_URL, api_key=key, max_retries=0)


def check_form(error: openai.APIStatusError) -> None:
    """The SDK unwraps {"error": {...}} into `body`, `code`, `param` and `type`."""
    assert isinstance(error.body, dict)
    assert {"message", "type", "param", "code"} <= error.body.keys()
    assert error.body["message"]
    assert error.response.headers["content-type"].startswith("application/json")


def test_unknown_model_lists_the_known_ones() -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        connect().chat.completions.create(model="no-such-model", messages=MESSAGES)
    check_form(caught.value)
    assert MODEL in caught.value.message
    assert caught.value.code == "model_not_found"


def test_unknown_path() -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        connect().get("/no/such/path", cast_to=object)
    check_form(caught.value)


@pytest.mark.parametrize(
    "asked",
    [
        pytest.param({"temperature": -1}, id="negative temperature"),
        pytest.param({"max_tokens": -1}, id="negative max_tokens"),
        pytest.param({"max_tokens": "many"}, id="max_tokens of text"),
        pytest.param({"n": 1000}, id="too many choices"),
        pytest.param({"top_logprobs": 1000, "logprobs": True}, id="too many logprobs"),
        pytest.param({"messages": "hi"}, id="messages of text"),
        pytest.param({"messages": [{"role": 5, "content": "hi"}]}, id="role of a number"),
        pytest.param(
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": 5}}},
            id="schema that is none",
        ),
        pytest.param({"tool_choice": "required"}, id="tool_choice without tools"),
        pytest.param({"messages": [{"role": "user", "content": "word " * 9000}]}, id="too long"),
    ],
)
def test_bad_request(asked: dict[str, Any]) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        connect().chat.completions.create(**{"model": MODEL, "messages": MESSAGES, **asked})
    check_form(caught.value)


def test_bad_request_of_a_stream_is_an_exception_too() -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        connect().chat.completions.create(
            model=MODEL, messages=MESSAGES, stream=True, temperature=-1
        )
    check_form(caught.value)


@pytest.mark.parametrize("key", ["wrong", "sk-compat-test"])
def test_wrong_key(key: str) -> None:
    with pytest.raises(openai.AuthenticationError) as caught:
        connect(key).models.list()
    check_form(caught.value)
    assert caught.value.code == "invalid_api_key"


async def test_wrong_key_async() -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key="wrong", max_retries=0) as client:
        with pytest.raises(openai.AuthenticationError):
            await client.chat.completions.create(model=MODEL, messages=MESSAGES)


def test_key_of_another_model() -> None:
    client = connect(TINY_ONLY_KEY)
    assert client.chat.completions.create(model=TINY, messages=MESSAGES, max_tokens=1).choices
    with pytest.raises(openai.PermissionDeniedError) as caught:
        client.chat.completions.create(model=MODEL, messages=MESSAGES, max_tokens=1)
    check_form(caught.value)


def test_rate_limit_says_when_to_come_back() -> None:
    client = connect(LIMITED_KEY)
    with contextlib.suppress(openai.RateLimitError):  # its minute may be used already
        client.chat.completions.create(model=TINY, messages=MESSAGES, max_tokens=1)
    with pytest.raises(openai.RateLimitError) as caught:
        client.chat.completions.create(model=TINY, messages=MESSAGES, max_tokens=1)
    check_form(caught.value)
    assert 1 <= int(caught.value.response.headers["retry-after"]) <= 60


def test_timeout_of_the_client() -> None:
    with pytest.raises(openai.APITimeoutError):
        connect().with_options(timeout=0.01).chat.completions.create(model=MODEL, messages=MESSAGES)
