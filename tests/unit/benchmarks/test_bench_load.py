"""The client of the front's benchmark: when requests come, and what counts as waiting."""

from __future__ import annotations

import asyncio
import json
from itertools import islice, pairwise

import pytest
from aiohttp import web

from benchmarks.front.asked import Asked, arrivals, lengths
from benchmarks.front.load import Endpoint, run
from benchmarks.front.summary import Request

ANSWER_SECONDS = 0.2


@pytest.mark.parametrize("rate", [0.5, 12.0, 300.0])
def test_requests_come_at_the_rate_asked_for(rate: float) -> None:
    count = 4000
    times = list(islice(arrivals(1, rate), count))
    assert times == sorted(times)
    # The mean of n exponential gaps is off by 1/sqrt(n) of itself: four times that is chance.
    assert times[-1] == pytest.approx(count / rate, rel=4 / count**0.5)
    gaps = [after - before for before, after in pairwise(times)]
    shorter = sum(gap < 1 / rate for gap in gaps) / len(gaps)
    assert shorter == pytest.approx(0.632, abs=0.04), "1 - 1/e of a Poisson process's gaps"


def test_without_a_rate_all_are_due_at_once() -> None:
    assert list(islice(arrivals(1, 0.0), 3)) == [0.0, 0.0, 0.0]


def test_the_same_seed_brings_the_same_load() -> None:
    assert list(islice(arrivals(7, 2.0), 5)) == list(islice(arrivals(7, 2.0), 5))
    assert list(islice(arrivals(7, 2.0), 5)) != list(islice(arrivals(8, 2.0), 5))


@pytest.mark.parametrize(("spread", "least", "most"), [(0.0, 32, 32), (0.5, 16, 48), (1.0, 2, 64)])
def test_answers_differ_in_length_by_the_share_asked_for(
    spread: float, least: int, most: int
) -> None:
    drawn = list(islice(lengths(3, 32, spread), 4000))
    assert (min(drawn), max(drawn)) == (least, most)
    assert sum(drawn) / len(drawn) == pytest.approx(32, rel=0.03), "the mean stays"
    assert drawn == list(islice(lengths(3, 32, spread), 4000)), "the same for every server"


async def _answer(request: web.Request) -> web.StreamResponse:
    stream = web.StreamResponse()
    await stream.prepare(request)
    await asyncio.sleep(ANSWER_SECONDS)
    for chunk in (
        {"choices": [{"delta": {"role": "assistant"}}]},
        {"choices": [{"delta": {"content": "a"}}]},
        {"choices": [{"delta": {"content": "b"}}]},
        {"choices": [], "usage": {"completion_tokens": 2}},
    ):
        await stream.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    return stream


def _load(due_seconds: list[float], streams: int) -> list[Request]:
    async def serve_and_ask() -> list[Request]:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", _answer)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        try:
            port = runner.addresses[0][1]
            endpoint = Endpoint(f"http://127.0.0.1:{port}", "m")
            asked = [Asked(due, "hello", output_tokens=2) for due in due_seconds]
            return await run(endpoint, asked, streams=streams)
        finally:
            await runner.cleanup()

    return asyncio.run(serve_and_ask())


def test_a_request_is_not_sent_before_it_is_due() -> None:
    first, second = sorted(_load([0.0, 0.5], streams=2), key=lambda one: one.start)
    assert second.start - first.start == pytest.approx(0.5, abs=0.1)
    assert second.ttft_seconds >= ANSWER_SECONDS


@pytest.mark.parametrize(
    ("due_seconds", "least"),
    [
        # Due at 0.01 s, sent when the one stream is free: the wait counts.
        ([0.0, 0.01], 2 * ANSWER_SECONDS - 0.01),
        # Without a time it starts when it is sent.
        ([0.0, 0.0], ANSWER_SECONDS),
    ],
)
def test_waiting_for_a_free_stream_counts_where_requests_have_a_time(
    due_seconds: list[float], least: float
) -> None:
    _, second = sorted(_load(due_seconds, streams=1), key=lambda one: one.end)
    assert second.ttft_seconds >= least - 0.005
    if not due_seconds[1]:
        assert second.ttft_seconds < 2 * ANSWER_SECONDS
