"""Tokens find their request by every form of id that vLLM makes, and are paid once."""

import pytest

from rayserve_par.serving.admission.context import request_usage
from rayserve_par.serving.admission.usage import UsageSink


class Bill:
    def __init__(self) -> None:
        self.tokens = 0

    def charge(self, tokens: int) -> None:
        self.tokens += tokens


@pytest.mark.parametrize(
    "request_id", ["abc", "0f3c2d9a-0000-4000-8000-0123456789ab", "a_1", "x-2"]
)
@pytest.mark.parametrize(
    "form",
    [
        "chatcmpl-{}",
        "chatcmpl-{}_3",
        "cmpl-{}-0",
        "cmpl-{}-17",
        "generate-tokens-{}",
        "embd-{}-0",
        "chatcmpl-{}-0a1b2c3d",
        "2_chatcmpl-{}-0a1b2c3d",
        "0_cmpl-{}-0-0a1b2c3d",
    ],
)
def test_every_form_of_id_is_charged(form: str, request_id: str) -> None:
    sink, bill = UsageSink(), Bill()
    sink.register(request_id, bill.charge, 0)
    sink.on_finished(form.format(request_id), 10, 5)
    assert bill.tokens == 15


def test_an_item_of_one_request_is_not_another_request() -> None:
    sink, short, long = UsageSink(), Bill(), Bill()
    sink.register("abc", short.charge, 0)
    sink.register("abc-0", long.charge, 0)
    sink.on_finished("cmpl-abc-0", 10, 5)
    sink.on_finished("cmpl-abc-0-0", 100, 50)
    assert (short.tokens, long.tokens) == (15, 150)


def test_choices_pay_their_prompt_once_and_prompts_of_a_list_each() -> None:
    sink, bill = UsageSink(), Bill()
    sink.register("abc", bill.charge, 0)
    for _ in range(3):
        sink.on_finished("chatcmpl-abc", 10, 5)
    assert bill.tokens == 10 + 3 * 5
    sink.on_finished("cmpl-abc-0", 10, 5)
    sink.on_finished("cmpl-abc-1", 20, 5)
    assert bill.tokens == 25 + 15 + 25


def test_ids_of_other_requests_and_of_nobody_change_nothing() -> None:
    sink, bill = UsageSink(), Bill()
    sink.register("abc", bill.charge, 0)
    for other in ("rayserve-par-probe-1", "chatcmpl-xyz", "", "-", "chatcmpl-", None):
        sink.on_finished(other, 10, 5)
    assert bill.tokens == 0


def test_an_id_bound_through_the_context_needs_no_form() -> None:
    sink, bill = UsageSink(), Bill()
    token = request_usage.set(sink.register("abc", bill.charge, 0))
    sink.on_started("resp_5f_0")
    request_usage.reset(token)
    sink.on_started("resp_of_nobody")
    sink.on_finished("resp_5f_0", 10, 5)
    sink.on_finished("resp_of_nobody", 10, 5)
    assert bill.tokens == 15


def test_an_unreported_request_pays_an_estimate_after_the_grace() -> None:
    sink, bill = UsageSink(), Bill()
    entry = sink.register("abc", bill.charge, 400)
    sink.end(entry, 10.0, 7)
    sink.sweep(11.0)
    assert bill.tokens == 0
    sink.sweep(12.5)
    assert bill.tokens == 100 + 7
    sink.on_finished("chatcmpl-abc", 120, 30)  # late: only what is missing
    assert bill.tokens == 150
    sink.sweep(100.0)
    assert len(sink) == 0


def test_a_reported_or_refused_request_pays_no_estimate() -> None:
    sink, reported, refused = UsageSink(), Bill(), Bill()
    entry = sink.register("abc", reported.charge, 400)
    sink.on_finished("chatcmpl-abc", 10, 5)
    sink.end(entry, 10.0, 7)
    sink.end(sink.register("def", refused.charge, 400), 10.0, None)
    sink.sweep(20.0)
    assert (reported.tokens, refused.tokens, len(sink)) == (15, 0, 0)
