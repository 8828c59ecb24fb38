"""pytest plugin for the SDK's own tests: what we do not serve must be refused with this status.

The tests were written for a mock that answers anything. A test of the table must end with the
stated HTTP status, then it counts as refused; with any other, or with an answer, it fails. Every
other test must pass as it is.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

import openai
import pytest

_CALL = r"::test_(?:method|raw_response|streaming_response)_"
_STORED = "nothing is stored: no list, retrieve, update or delete of past chat completions"
_RESPONSE_ID = "the test asks for a response that does not exist here"


@dataclass(frozen=True, slots=True)
class Refusal:
    """Tests whose node id matches `tests` end with `status`."""

    tests: str
    status: int
    reason: str


REFUSALS = (
    Refusal(rf"chat/completions/test_messages.*{_CALL}list", 404, _STORED),
    Refusal(rf"chat/test_completions.*{_CALL}(?:retrieve|update|delete)", 404, _STORED),
    Refusal(rf"chat/test_completions.*{_CALL}list", 405, _STORED),
    Refusal(rf"test_models.*{_CALL}delete", 404, "models are not deleted through the API"),
    Refusal(rf"test_embeddings.*{_CALL}create", 404, "the model served here makes no embeddings"),
    Refusal(
        r"test_responses.*create_with_all_params",
        400,
        "the test asks for a background response, which needs vLLM's response store",
    ),
    Refusal(rf"test_responses.*{_CALL}(?:retrieve|cancel)", 404, _RESPONSE_ID),
    Refusal(rf"test_responses.*{_CALL}delete", 405, "vLLM does not delete responses"),
    Refusal(rf"test_responses.*{_CALL}compact", 405, "vLLM does not compact responses"),
    Refusal(rf"test_input_items.*{_CALL}list", 404, "vLLM does not list the items of a response"),
    Refusal(rf"test_input_tokens.*{_CALL}count", 405, "vLLM does not count a response's tokens"),
)


def refusal_of(node: str) -> Refusal | None:
    """The first row that matches."""
    return next((row for row in REFUSALS if re.search(row.tests, node)), None)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    row = refusal_of(pyfuncitem.nodeid)
    if row is None:
        return (yield)
    try:
        yield
    except openai.APIStatusError as error:
        if error.status_code != row.status:
            raise
        pytest.xfail(row.reason)
    pytest.fail(f"answered, and should be refused with {row.status}: {row.reason}")
