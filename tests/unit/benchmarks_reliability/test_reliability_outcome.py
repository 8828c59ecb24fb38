"""The accounting of the reliability suite: what a request that was seen so became."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.reliability.outcome import (
    Ending,
    Kind,
    Request,
    cut_delays,
    longest_silence,
    moments,
    tally,
)

COMPLETE = Request(
    start=10.0,
    end=14.0,
    ending=Ending.COMPLETE,
    wanted_tokens=50,
    first_byte=10.1,
    first_token=10.2,
    status=200,
    tokens=50,
    done=True,
)
NO_BYTE = Request(start=10.0, end=11.0, ending=Ending.CLOSED, wanted_tokens=50)
REFUSAL = replace(
    COMPLETE,
    status=503,
    first_token=None,
    tokens=0,
    done=False,
    openai_error=True,
    retry_after=True,
)


@pytest.mark.parametrize(
    ("request_", "kind", "reason"),
    [
        (COMPLETE, Kind.ACCEPTED, "complete"),
        (replace(COMPLETE, tokens=49), Kind.FAILED, "49 tokens instead of 50"),
        (replace(COMPLETE, done=False), Kind.CUT, "ended without [DONE]"),
        (replace(COMPLETE, done=False, ending=Ending.CLOSED), Kind.CUT, "connection aborted"),
        # vLLM ends a stream with the error and then its end mark.
        (replace(COMPLETE, openai_error=True, tokens=0), Kind.CUT, "error event"),
        (
            replace(COMPLETE, done=False, openai_error=True, ending=Ending.CLOSED),
            Kind.CUT,
            "error event",
        ),
        (
            replace(COMPLETE, done=False, ending=Ending.SILENT),
            Kind.LOST,
            "silent after the answer began",
        ),
        (replace(NO_BYTE, ending=Ending.SILENT), Kind.LOST, "silent"),
        (NO_BYTE, Kind.FAILED, "no byte of an answer: the connection was closed or reset"),
        (
            replace(NO_BYTE, ending=Ending.UNREACHABLE),
            Kind.FAILED,
            "no byte of an answer: no connection could be made",
        ),
        (REFUSAL, Kind.REFUSED, "HTTP 503"),
        (replace(REFUSAL, retry_after=False), Kind.FAILED, "HTTP 503 without Retry-After"),
        (replace(REFUSAL, status=429), Kind.REFUSED, "HTTP 429"),
        (
            replace(REFUSAL, status=429, retry_after=False),
            Kind.FAILED,
            "HTTP 429 without Retry-After",
        ),
        (replace(REFUSAL, status=400, retry_after=False), Kind.REFUSED, "HTTP 400"),
        (replace(REFUSAL, status=504, retry_after=False), Kind.REFUSED, "HTTP 504"),
        (
            replace(REFUSAL, openai_error=False),
            Kind.FAILED,
            "HTTP 503 without OpenAI's error body",
        ),
        (
            replace(REFUSAL, status=404, openai_error=False),
            Kind.FAILED,
            "HTTP 404 without OpenAI's error body",
        ),
        (replace(REFUSAL, status=500), Kind.FAILED, "HTTP 500"),
        (replace(REFUSAL, status=502), Kind.FAILED, "HTTP 502"),
        (replace(REFUSAL, status=302), Kind.FAILED, "HTTP 302"),
    ],
)
def test_kind_and_reason(request_: Request, kind: Kind, reason: str) -> None:
    assert (request_.kind, request_.reason) == (kind, reason)


requests = st.builds(
    Request,
    start=st.floats(0, 100),
    end=st.floats(100, 200),
    ending=st.sampled_from(Ending),
    wanted_tokens=st.integers(1, 3),
    first_byte=st.none() | st.floats(100, 200),
    first_token=st.none(),
    status=st.none() | st.sampled_from([200, 302, 400, 429, 500, 502, 503, 504]),
    tokens=st.integers(0, 3),
    done=st.booleans(),
    openai_error=st.booleans(),
    retry_after=st.booleans(),
)


@given(requests)
def test_accepted_is_complete_and_nothing_less(request_: Request) -> None:
    accepted = request_.kind is Kind.ACCEPTED
    assert accepted == (
        request_.status == 200
        and request_.done
        and not request_.openai_error
        and request_.tokens == request_.wanted_tokens
        and request_.ending is Ending.COMPLETE
    )


@given(requests)
def test_silence_is_lost_and_no_byte_is_never_cut(request_: Request) -> None:
    assert (request_.kind is Kind.LOST) == (request_.ending is Ending.SILENT)
    if request_.status is None:
        assert request_.kind in {Kind.LOST, Kind.FAILED}


@given(st.lists(requests))
def test_every_request_is_counted_once_and_each_not_accepted_has_a_reason(
    several: list[Request],
) -> None:
    counted = tally(several)
    assert counted.total == len(several)
    assert sum(counted.reasons.values()) == len(several) - counted[Kind.ACCEPTED]


def test_cut_delays_are_those_of_streams_open_at_the_harm() -> None:
    cut = replace(COMPLETE, done=False, ending=Ending.CLOSED)
    seen = [
        COMPLETE,
        replace(cut, end=12.5),
        replace(cut, end=12.1),
        replace(cut, start=9.0, end=11.5),  # over before
        replace(cut, start=12.2, end=13.0),  # sent after
    ]
    assert cut_delays(seen, at=12.0) == pytest.approx((0.1, 0.5))


@pytest.mark.parametrize(
    ("begun", "at", "seconds"),
    [
        ([1.0, 2.0, 3.0], 1.5, 1.0),
        ([1.0, 2.0, 9.0, 10.0], 3.0, 6.0),
        ([1.0, 2.0], 5.0, 0.0),
        ([], 5.0, 0.0),
    ],
)
def test_longest_silence(begun: list[float], at: float, seconds: float) -> None:
    seen = [replace(COMPLETE, first_byte=moment) for moment in begun]
    assert longest_silence([*seen, REFUSAL], at) == seconds


def test_moments_are_the_first_and_the_last_of_each_reason() -> None:
    seen = [COMPLETE, replace(REFUSAL, end=12.0), replace(REFUSAL, end=15.0), NO_BYTE]
    assert moments(seen, at=10.0) == {
        "refused: HTTP 503": (2.0, 5.0),
        "failed: no byte of an answer: the connection was closed or reset": (1.0, 1.0),
    }
