"""litellm with `openai/` and `hosted_vllm/` models against us."""

import contextlib
import json
from typing import Any

import litellm
import pytest
from pydantic import BaseModel
from served import BASE_URL, KEY, LIMITED_KEY, MODEL, TINY

MESSAGES = [{"role": "user", "content": "What is the capital of France?"}]
PROVIDERS = pytest.mark.parametrize("provider", ["openai", "hosted_vllm"])
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORCED = {"type": "function", "function": {"name": "get_weather"}}


class Answer(BaseModel):
    """A parsed answer."""

    city: str


def asked(provider: str, **more: Any) -> dict[str, Any]:
    return {
        "model": f"{provider}/{MODEL}",
        "api_base": BASE_URL,
        "api_key": KEY,
        "messages": MESSAGES,
        "temperature": 0,
        "max_tokens": 48,
        "num_retries": 0,
        "max_retries": 0,
        **more,
    }


@PROVIDERS
def test_answer(provider: str) -> None:
    answer = litellm.completion(**asked(provider))
    assert "Paris" in answer.choices[0].message.content
    assert answer.usage.completion_tokens > 0


@PROVIDERS
def test_stream(provider: str) -> None:
    chunks = list(
        litellm.completion(**asked(provider), stream=True, stream_options={"include_usage": True})
    )
    whole = litellm.stream_chunk_builder(chunks, messages=MESSAGES)
    assert "Paris" in whole.choices[0].message.content
    assert whole.usage.completion_tokens > 0


@PROVIDERS
async def test_async(provider: str) -> None:
    answer = await litellm.acompletion(**asked(provider))
    assert "Paris" in answer.choices[0].message.content


@PROVIDERS
async def test_async_stream(provider: str) -> None:
    stream = await litellm.acompletion(**asked(provider), stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
    assert "Paris" in text


@PROVIDERS
def test_named_tool(provider: str) -> None:
    answer = litellm.completion(**asked(provider, tools=[TOOL], tool_choice=FORCED))
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}


@PROVIDERS
def test_streamed_tool(provider: str) -> None:
    chunks = list(
        litellm.completion(**asked(provider, tools=[TOOL], tool_choice=FORCED), stream=True)
    )
    [call] = litellm.stream_chunk_builder(chunks).choices[0].message.tool_calls
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}


@PROVIDERS
def test_parsed_answer(provider: str) -> None:
    answer = litellm.completion(**asked(provider, response_format=Answer))
    assert Answer.model_validate_json(answer.choices[0].message.content)


def test_text_completion() -> None:
    answer = litellm.text_completion(
        model=f"text-completion-openai/{MODEL}",
        api_base=BASE_URL,
        api_key=KEY,
        prompt="The capital of France is",
        max_tokens=8,
        temperature=0,
    )
    assert "Paris" in answer.choices[0].text


def test_responses() -> None:
    answer = litellm.responses(
        model=f"openai/{MODEL}",
        api_base=BASE_URL,
        api_key=KEY,
        input="What is the capital of France?",
        temperature=0,
        max_output_tokens=24,
    )
    assert "Paris" in answer.output[0].content[0].text


@PROVIDERS
@pytest.mark.parametrize(
    ("more", "expected"),
    [
        pytest.param({"api_key": "wrong"}, litellm.AuthenticationError, id="wrong key"),
        pytest.param({"temperature": -1}, litellm.BadRequestError, id="bad value"),
        pytest.param(
            {"messages": [{"role": "user", "content": "word " * 9000}]},
            litellm.ContextWindowExceededError,
            id="too long",
        ),
        pytest.param({"timeout": 0.05, "max_tokens": 128}, litellm.Timeout, id="timeout"),
    ],
)
def test_exceptions(provider: str, more: dict[str, Any], expected: type[Exception]) -> None:
    with pytest.raises(expected):
        litellm.completion(**asked(provider, **more))


@PROVIDERS
def test_unknown_model(provider: str) -> None:
    with pytest.raises(litellm.NotFoundError) as caught:
        litellm.completion(**asked(provider, model=f"{provider}/no-such-model"))
    assert MODEL in str(caught.value)


def test_rate_limit() -> None:
    tiny = asked("openai", model=f"openai/{TINY}", api_key=LIMITED_KEY, max_tokens=1)
    with contextlib.suppress(litellm.RateLimitError):  # its minute may be used already
        litellm.completion(**tiny)
    with pytest.raises(litellm.RateLimitError):
        litellm.completion(**tiny)


async def test_error_of_an_async_stream() -> None:
    with pytest.raises(litellm.BadRequestError):
        await litellm.acompletion(**asked("openai", temperature=-1), stream=True)
