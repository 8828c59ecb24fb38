"""The responses API as users of openai-python call it."""

import json
from typing import Any

import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from served import BASE_URL, KEY, MODEL

QUESTION = "What is the capital of France?"


class Answer(BaseModel):
    """A parsed answer."""

    city: str


@pytest.fixture
def client() -> OpenAI:
    return OpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0)


def test_answer(client: OpenAI) -> None:
    answer = client.responses.create(
        model=MODEL, input=QUESTION, temperature=0, max_output_tokens=24
    )
    assert "Paris" in answer.output_text
    assert answer.usage is not None
    assert answer.usage.output_tokens > 0


def test_instructions_and_messages(client: OpenAI) -> None:
    messages: Any = [{"role": "user", "content": [{"type": "input_text", "text": QUESTION}]}]
    answer = client.responses.create(
        model=MODEL, instructions="Be brief.", input=messages, max_output_tokens=8
    )
    assert answer.status in {"completed", "incomplete"}


def test_stream(client: OpenAI) -> None:
    stream = client.responses.create(
        model=MODEL, input=QUESTION, stream=True, temperature=0, max_output_tokens=16
    )
    events = list(stream)
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] in {"response.completed", "response.incomplete"}
    assert "response.output_text.delta" in kinds
    numbers = [event.sequence_number for event in events]
    assert numbers == sorted(set(numbers))


def test_parsed_answer(client: OpenAI) -> None:
    answer = client.responses.parse(
        model=MODEL, input=QUESTION, text_format=Answer, temperature=0, max_output_tokens=64
    )
    assert isinstance(answer.output_parsed, Answer)


def test_named_tool(client: OpenAI) -> None:
    tool: Any = {
        "type": "function",
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    answer = client.responses.create(
        model=MODEL,
        input=QUESTION,
        tools=[tool],
        tool_choice={"type": "function", "name": "get_weather"},
        temperature=0,
    )
    [call] = [item for item in answer.output if item.type == "function_call"]
    assert call.name == "get_weather"
    assert json.loads(call.arguments)["city"] in {"Paris", "Rome"}


async def test_async_answer() -> None:
    async with AsyncOpenAI(base_url=BASE_URL, api_key=KEY, max_retries=0) as client:
        answer = await client.responses.create(model=MODEL, input=QUESTION, max_output_tokens=4)
    assert answer.output
