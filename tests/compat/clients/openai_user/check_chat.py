"""Chat and completions as users of openai-python call them."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from served import ALIAS, BASE_URL, KEY, MODEL, TINY

MESSAGES: list[Any] = [{"role": "user", "content": "What is the capital of France?"}]
WEATHER: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Weather of a city",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
FORCED: Any = {"type": "function", "function": {"name": "get_weather"}}


class Answer(BaseModel):
    """A parsed answer."""

    city: str
    is_capital: bool


@pytest.fixture
def client() -> OpenAI:
    return OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)


@pytest.fixture
def async_client() -> AsyncOpenAI:
    return AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)


def test_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")
    assert answer.model == MODEL
    assert answer.usage is not None
    total = answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.usage.total_tokens == total
    assert answer.choices[0].finish_reason in {"stop", "length"}


def test_max_completion_tokens_is_length(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=MESSAGES, max_completion_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 2


@pytest.mark.parametrize("role", ["system", "developer"])
def test_instruction_roles(client: OpenAI, role: str) -> None:
    messages: list[Any] = [{"role": role, "content": "Answer in one word."}, *MESSAGES]
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=8)
    assert answer.choices[0].message.content


def test_content_parts(client: OpenAI) -> None:
    parts = [{"type": "text", "text": "Say"}, {"type": "text", "text": "hello."}]
    messages: list[Any] = [{"role": "user", "content": parts}]
    answer = client.chat.completions.create(model=MODEL, messages=messages, max_tokens=4)
    assert answer.choices[0].message.role == "assistant"


def test_several_choices_and_seed(client: OpenAI) -> None:
    answers = [
        client.chat.completions.create(
            model=TINY, messages=MESSAGES, n=3, seed=7, temperature=1, max_tokens=8
        )
        for _ in range(2)
    ]
    texts = [[choice.message.content for choice in answer.choices] for answer in answers]
    assert [choice.index for choice in answers[0].choices] == [0, 1, 2]
    assert texts[0] == texts[1]


def test_logprobs(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=TINY, messages=MESSAGES, logprobs=True, top_logprobs=3, max_tokens=4, temperature=0
    )
    logprobs = answer.choices[0].logprobs
    assert logprobs is not None
    assert logprobs.content
    for token in logprobs.content:
        assert token.logprob <= 0
        assert len(token.top_logprobs) == 3


def test_stop_string_is_not_in_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, stop=["Paris"], max_tokens=24
    )
    assert answer.choices[0].finish_reason == "stop"
    assert "Paris" not in (answer.choices[0].message.content or "")


def test_stream_adds_up_to_the_answer(client: OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": MODEL, "messages": MESSAGES, "temperature": 0, "max_tokens": 16,
    }  # fmt: skip
    whole = client.chat.completions.create(**asked).choices[0].message.content
    chunks = list(
        client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True})
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text == whole
    assert chunks[-1].choices == []
    assert chunks[-1].usage is not None
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert reasons[-1] is not None
    assert all(reason is None for reason in reasons[:-1])


def test_stream_that_is_left_early(client: OpenAI) -> None:
    stream = client.chat.completions.create(model=MODEL, messages=MESSAGES, stream=True)
    next(iter(stream))
    stream.close()
    assert client.models.list().data


def test_stream_helper(client: OpenAI) -> None:
    with client.chat.completions.stream(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=12
    ) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content


async def test_async_answer(async_client: AsyncOpenAI) -> None:
    answer = await async_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, temperature=0, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")


async def test_async_stream(async_client: AsyncOpenAI) -> None:
    stream = await async_client.chat.completions.create(
        model=MODEL, messages=MESSAGES, stream=True, max_tokens=8
    )
    assert [chunk async for chunk in stream]


def test_named_tool(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=MESSAGES, tools=[WEATHER], tool_choice=FORCED, temperature=0
    )
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}
    assert call.id


def test_required_tool(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        tools=[WEATHER],
        tool_choice="required",
        parallel_tool_calls=False,
        temperature=0,
    )
    assert answer.choices[0].finish_reason == "tool_calls"
    [call] = answer.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}


def test_streamed_tool(client: OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=MESSAGES,
        tools=[WEATHER],
        tool_choice=FORCED,
        temperature=0,
        stream=True,
    )
    name, arguments, ids = "", "", set()
    for chunk in stream:
        for call in (chunk.choices[0].delta.tool_calls or []) if chunk.choices else []:
            assert call.index == 0
            ids.add(call.id)
            name += (call.function and call.function.name) or ""
            arguments += (call.function and call.function.arguments) or ""
    assert name == "get_weather"
    assert json.loads(arguments)["city"] in {"Paris", "Rome"}
    assert len(ids - {None}) == 1


def test_tool_result_goes_back(client: OpenAI) -> None:
    call = {"id": "call_1", "type": "function"}
    function = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    messages: list[Any] = [
        *MESSAGES,
        {"role": "assistant", "content": None, "tool_calls": [{**call, "function": function}]},
        {"role": "tool", "tool_call_id": "call_1", "content": "sunny"},
    ]
    answer = client.chat.completions.create(
        model=MODEL, messages=messages, tools=[WEATHER], tool_choice="none", max_tokens=8
    )
    assert answer.choices[0].message.content


def test_parsed_answer(client: OpenAI) -> None:
    answer = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Answer, temperature=0
    )
    assert isinstance(answer.choices[0].message.parsed, Answer)


def test_json_object(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "A JSON object with the key city: Paris"}],
        response_format={"type": "json_object"},
        temperature=0,
        stop=["}"],
        extra_body={"include_stop_str_in_output": True},
    )
    assert (answer.choices[0].message.content or "").lstrip().startswith("{")


@pytest.mark.parametrize("name", [MODEL, ALIAS])
def test_alias_is_the_same_model(client: OpenAI, name: str) -> None:
    answer = client.chat.completions.create(
        model=name, messages=MESSAGES, temperature=0, max_tokens=24
    )
    assert "Paris" in (answer.choices[0].message.content or "")


def test_completion(client: OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="The capital of France is", temperature=0, max_tokens=8, logprobs=1
    )
    assert "Paris" in answer.choices[0].text
    assert answer.choices[0].logprobs is not None


def test_completion_of_several_prompts_with_echo(client: OpenAI) -> None:
    answer = client.completions.create(
        model=TINY, prompt=["one", "two"], echo=True, max_tokens=2, temperature=0
    )
    assert [choice.text[:3] for choice in answer.choices] == ["one", "two"]


def test_completion_of_tokens(client: OpenAI) -> None:
    answer = client.completions.create(model=TINY, prompt=[5, 6, 7], max_tokens=2)
    assert answer.usage is not None
    assert answer.usage.prompt_tokens == 3


def test_streamed_completion(client: OpenAI) -> None:
    stream = client.completions.create(model=TINY, prompt="one", stream=True, max_tokens=4)
    assert [chunk.choices[0].text for chunk in stream]


def test_models(client: OpenAI) -> None:
    models = {model.id: model for model in client.models.list()}
    assert {MODEL, ALIAS, TINY} <= models.keys()
    assert all(model.object == "model" for model in models.values())
