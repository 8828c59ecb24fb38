"""Re-planning under load on a real cluster: by hand, by what is measured, by the load's shape.

Two nodes of two GPUs. The engine is the mock: what it takes by layout is set here, and what the
planner predicts of the layouts is the planner's.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from rayserve_par.control.live import store
from rayserve_par.control.live.records import NO_OVERRIDE, Override
from tests.e2e.conftest import APP, Deployer
from tests.e2e.controlled import CONTROLLER, REPLAN, Controlled, Streams
from tests.e2e.open_load import OpenLoad
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

SECONDS = 120
RATE = 4.0
TP1: dict[str, Any] = {"tp": 1, "instances": 1}
COMMAND = [sys.executable, "-m", "rayserve_par.cli.main", "replan", APP]
# The scaling policy measures the load; there is nothing for it to scale.
ONE_INSTANCE = {"max_replicas": 1, "look_seconds": 1, "start_seconds": 5}
LATENCY: dict[str, Any] = {
    "model": "tiny-llama",
    "target": "latency",
    "drain_timeout_s": 30.0,
    "mock_engine": {"step_base_seconds": 0.02, "answer_tokens": 60},
}


@pytest.fixture
def app(deployer: Deployer) -> Iterator[Controlled]:
    deployer.delete()
    store.forget(APP)
    made = Controlled(deployer)
    yield made
    for one in made.decided():
        print(one.number, one.carried_out, one.isl, one.decision.action, one.decision.note)
    print(made.record.latest, made.record.memory, sep="\n")
    made.delete()
    store.forget(APP)


def replan(*options: str) -> str:
    """What `rayserve-par replan` prints."""
    done = subprocess.run(
        [*COMMAND, *options], capture_output=True, text=True, timeout=180, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def measured_rate(app: Controlled) -> float:
    """Requests per second that a new layout would be compared with."""
    window = app.record.memory.window
    return window.requests_per_second if window else 0.0


def load(app: Controlled, prompt_tokens: int, rate: float) -> OpenLoad:
    body = {
        "model": "tiny-llama", "prompt": "a " * prompt_tokens, "max_tokens": 16,
        "ignore_eos": True, "stream": True,
    }  # fmt: skip
    return OpenLoad(app.deployer.url, body, rate)


def test_by_hand_the_layout_is_changed_without_losing_a_stream(app: Controlled) -> None:
    app.deploy({**LATENCY, "replanned": TP1}, supervised=False)
    assert app.layouts == ["TP1"]
    [shown] = json.loads(replan("--json"))
    assert (shown["decision"]["why"], shown["carried_out"]) == ("better", False)
    assert app.decided() == []
    with Streams(app.deployer.url) as streams:
        told = replan("--apply")
        assert app.layouts == ["TP2"]
    assert "Rolled out." in told
    assert app.acted() == ["change", "count"]
    assert streams.lost == []
    assert streams.whole > 0
    assert "TP2 is the planner's choice" in replan()


def test_a_layout_that_is_worse_in_fact_is_taken_back(app: Controlled) -> None:
    args = {
        **LATENCY,
        "workload": {"isl": 64, "osl": 16, "ttft_ms": 2000, "tpot_ms": 200},
        "autoscaling": ONE_INSTANCE,
        # The planner expects TP2 to be faster.
        "mock_engine": {
            "step_base_seconds": 0.04,
            "by_layout": {"TP1": {"step_base_seconds": 0.01}},
        },
    }
    store.write_override(APP, Override(paused=True, note="until the load is measured"))
    app.deploy({**args, "replanned": TP1})
    with load(app, 64, RATE) as requests:
        wait_until(lambda: measured_rate(app) > 0.8 * RATE, SECONDS)
        assert app.layouts == ["TP1"]
        store.write_override(APP, NO_OVERRIDE)
        wait_until(lambda: app.layouts == ["TP2"], SECONDS)
        wait_until(lambda: app.acted() == ["change", "count", "back_out", "count"], SECONDS)
        wait_until(lambda: app.layouts == ["TP1"], SECONDS)
        wait_until(lambda: (now := app.record.latest) and now.why == "best", SECONDS)
    change, _, back, _ = app.events()
    print(change.decision.note, back.decision.note, requests.outcomes, sep="\n")
    assert (change.decision.why, back.decision.why) == ("better", "worse")
    assert "TPOT" in back.decision.note
    assert "ms before" in back.decision.note
    assert back.decision.choice is not None
    assert back.decision.choice.layout.label == "TP1"
    [barred] = app.record.memory.barred
    assert barred.choice.layout.label == "TP2"
    assert requests.all_served, requests.outcomes


def test_another_layout_for_a_load_of_another_shape(app: Controlled) -> None:
    """First only advised, then done by hand, and the way back by the controller itself."""
    args = {
        "model": "tiny-llama",
        "drain_timeout_s": 30.0,
        # By the planner TP1 keeps 100 ms with prompts of 64 tokens, with 1100 only TP2 does.
        "workload": {"isl": 64, "osl": 16, "ttft_ms": 100, "tpot_ms": 200},
        "autoscaling": ONE_INSTANCE,
        "mock_engine": {"step_base_seconds": 0.005, "prefill_tokens_per_second": 100_000.0},
    }
    # The rate is not the same throughout, so no layout can be judged by what it is measured at.
    settings = {**REPLAN, "trial_limit_seconds": REPLAN["trial_seconds"]}
    app.deploy(args, controller={"dry_run": True, "replan": settings})
    with load(app, 64, RATE) as short:
        wait_until(lambda: measured_rate(app) > RATE / 2, SECONDS)
        assert [one.decision.why for one in app.decided()] == ["best"]
    with load(app, 1100, 2 * RATE) as long:
        wait_until(lambda: app.decided()[-1].decision.why == "better", SECONDS)
        advised = app.decided()[-1]
        assert not advised.carried_out
        assert app.layouts == ["TP1"]
        told = replan("--apply")
        assert app.layouts == ["TP2"]
        # The prompts are as long as they were, so nothing else is advised now.
        wait_until(lambda: app.decided()[-1].decision.why == "best", SECONDS)
    assert "Rolled out." in told
    assert app.acted() == ["change", "count"]
    assert [one.decision.why for one in app.decided()].count("better") == 2

    app.deployer.client.redeploy(
        CONTROLLER, lambda config: {**config, "args": {**config["args"], "dry_run": False}}
    )
    with load(app, 64, 2 * RATE) as again:
        wait_until(lambda: app.layouts == ["TP1"], SECONDS)
        wait_until(lambda: app.acted() == ["change", "count"] * 2, SECONDS)
    for one in (short, long, again):
        assert one.all_served, one.outcomes
    assert advised.isl > 600
