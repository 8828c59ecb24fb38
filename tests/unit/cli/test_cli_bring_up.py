"""What a user is told when an application does not come up."""

from __future__ import annotations

import pytest

from rayserve_par.cli.bring_up import DeploymentFailedError, cause, failure
from rayserve_par.control.serve_client import AppState
from rayserve_par.errors import RefusedError

TRACEBACK = """The deployment failed to start 1 times in a row.
Traceback (most recent call last):
  File "a.py", line 1, in start
    engine()
ValueError: first

Traceback (most recent call last):
  File "b.py", line 2, in build
    config()
    ^^^^^^^^
ValidationError: 1 error
  max_model_len 100000 is too long"""


def state(message: str) -> AppState:
    return AppState("app", "DEPLOY_FAILED", message, "/", (), "", {})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (TRACEBACK, "ValidationError: 1 error\n  max_model_len 100000 is too long"),
        ("no traceback here", "no traceback here"),
        ('  File "a.py", line 1, in f\n    g()', '  File "a.py", line 1, in f\n    g()'.strip()),
    ],
)
def test_the_cause_is_the_end_of_the_last_traceback(text: str, expected: str) -> None:
    assert cause(text) == expected


def test_a_failed_start_keeps_all_that_serve_said() -> None:
    error = failure(state(TRACEBACK))
    assert isinstance(error, DeploymentFailedError)
    assert "max_model_len 100000" in str(error)
    assert "first" not in str(error)
    assert error.details == TRACEBACK


def test_a_refusal_of_the_builder_is_a_refusal_here() -> None:
    text = "Traceback\n  File x\nrayserve_par.errors.RefusedError: 3 x TP8 need 24 GPUs"
    error = failure(state(text))
    assert isinstance(error, RefusedError)
    assert str(error) == "3 x TP8 need 24 GPUs"
