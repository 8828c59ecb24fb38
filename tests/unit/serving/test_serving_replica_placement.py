"""A replica whose ranks are not where the plan wants them stops and shows both pictures."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest

pytest.importorskip("ray", reason="the replica needs Ray")

from rayserve_par.placement.bundles import placement_for
from rayserve_par.placement.verify import RankLocation, verify
from rayserve_par.planning.layout import Layout
from rayserve_par.serving import replica as replica_module
from rayserve_par.serving import verification
from rayserve_par.serving.replica import ModelReplica
from rayserve_par.serving.vllm_bridge import instance

LAYOUT = Layout(pp=2)
PLACEMENT = placement_for(LAYOUT, across_nodes=True, gpus_per_node=2)


class FakeInstance:
    start_seconds = 1.0
    engine = SimpleNamespace(generate=lambda *_: None)
    stopped = False

    def watch(self, on_end: Any) -> None:
        del on_end

    def shutdown(self) -> None:
        self.stopped = True


def test_a_misplaced_rank_stops_the_replica(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("vllm", reason="the bridge needs vLLM")
    started = FakeInstance()
    facts: list[bool] = []

    async def start(*_: Any) -> FakeInstance:
        return started

    # Both stages on node a, where the plan wants a node each.
    locations = [RankLocation(0, rank, rank, "a", rank) for rank in range(2)]
    verdict = verify(PLACEMENT, locations, {"a": "a", "b": "b"}, {0: "a", 1: "a"})
    metrics = SimpleNamespace(export_facts=lambda _plan, **known: facts.append(known["verified"]))
    monkeypatch.setattr(instance, "start_instance", start)
    monkeypatch.setattr(verification, "verify_placement", lambda _: verdict)
    monkeypatch.setattr(ModelReplica, "_make_metrics", lambda _: metrics)
    monkeypatch.setattr(ModelReplica, "_make_gate", lambda *_: None)
    monkeypatch.setattr(replica_module, "FACTS_PERIOD_SECONDS", 0.01)
    monkeypatch.setattr(replica_module, "_MISMATCH_SHOWN_SECONDS", 0.02)
    spec: Any = SimpleNamespace(placement=PLACEMENT, plan=None, mock=None)
    replica = ModelReplica(spec)
    with pytest.raises(RuntimeError, match="not what the plan says") as caught:
        asyncio.run(replica.__serve_build_asgi_app__())
    assert verdict.expected in str(caught.value)
    assert verdict.actual in str(caught.value)
    assert verdict.expected != verdict.actual
    assert started.stopped
    assert facts == [False, False], "shown for as long as it takes to be seen"
