"""Requests that schemathesis makes from our /openapi.json: no 5xx, no hang.

The same requests in every run (hypothesis without randomness), valid and invalid ones. Answers are
short: the tiny model writes 16 tokens at most. Schemathesis' own list of boundary values is left
out: vLLM's schemas of chats and responses make tens of thousands of it. A request that takes longer
than the limit counts as a hang.
"""

import os
from collections.abc import Callable
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.checks import not_a_server_error
from served import KEY, TINY_URL

HANG_SECONDS = 60.0
LEAST_CASES = 1000
CASES_PER_OPERATION = int(os.environ.get("COMPAT_CASES_PER_OPERATION", "120"))
HEADERS = {"Authorization": f"Bearer {KEY}"}
statuses: dict[int, int] = {}

schema = schemathesis.openapi.from_url(f"{TINY_URL}/openapi.json", headers=HEADERS)
schema.config.base_url = TINY_URL


@schema.parametrize()
@settings(
    max_examples=CASES_PER_OPERATION,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),
    suppress_health_check=list(HealthCheck),
)
@pytest.mark.timeout(600)
def test_operation(case: schemathesis.Case) -> None:
    answer = case.call(headers=HEADERS, timeout=HANG_SECONDS)
    statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
    # 501 is vLLM's answer for what the served model cannot do.
    if answer.status_code != 501:
        case.validate_response(answer, checks=[not_a_server_error])


def test_enough_cases(record_testsuite_property: Callable[[str, Any], None]) -> None:
    cases = sum(statuses.values())
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(statuses.items()))
    record_testsuite_property("compat-note", f"{cases} requests: {counts}")
    assert cases >= LEAST_CASES
    assert all(status < 500 or status == 501 for status in statuses)
