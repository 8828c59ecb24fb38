"""What vLLM's step statistics become in our metrics."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from recording import Told

pytest.importorskip("vllm", reason="the statistics are vLLM's")

from vllm.v1.engine import FinishReason
from vllm.v1.metrics.stats import FinishedRequestStats, IterationStats

from rayserve_par.serving.instance_metrics import InstanceMetrics
from rayserve_par.serving.metric_registry import INSTANCE_METRICS
from rayserve_par.serving.slo import Slo
from rayserve_par.serving.vllm_bridge.instance import PROBE_PREFIX
from rayserve_par.serving.vllm_bridge.stat_logger import InstanceStatLogger, StepListeners

LABELS = {"model": "m", "instance_id": "i", "node": "n"}
CONFIG: Any = SimpleNamespace()


def _finished(request_id: str, tokens: int, reason: FinishReason) -> FinishedRequestStats:
    decode_seconds = 0.1 * (tokens - 1)
    return FinishedRequestStats(
        finish_reason=reason,
        request_id=request_id,
        e2e_latency=1.5 + decode_seconds,
        num_prompt_tokens=7,
        num_generation_tokens=tokens,
        decode_time=decode_seconds,
        mean_time_per_output_token=0.1 if tokens > 1 else 0.0,
    )


def _record(*finished: FinishedRequestStats, firsts: tuple[float, ...] = ()) -> tuple[Told, list]:
    told, ended = Told(), []
    listeners = StepListeners(
        on_tokens=lambda: None,
        on_load=lambda _stats, _index: None,
        on_finished=lambda *request: ended.append(request),
    )
    metrics = InstanceMetrics(told.make(INSTANCE_METRICS, LABELS), Slo(2.0, 0.05))
    logger = InstanceStatLogger(CONFIG, metrics=metrics, listeners=listeners)
    stats = IterationStats()
    stats.finished_requests.extend(finished)
    stats.time_to_first_tokens_iter.extend(firsts)
    logger.record(None, stats)
    metrics.export_counts()
    return told, ended


@pytest.mark.parametrize(
    ("tokens", "reason", "outcome"),
    [
        (1, FinishReason.STOP, "met"),
        (5, FinishReason.LENGTH, "tpot"),
        (5, FinishReason.ERROR, "error"),
    ],
)
def test_a_finished_request_is_held_to_the_limits(
    tokens: int, reason: FinishReason, outcome: str
) -> None:
    told, ended = _record(_finished("a", tokens, reason), firsts=(1.5,))
    assert ended == [("a", 7, tokens)]
    assert told.of("requests_total", reason=str(reason)) == 1
    assert told.of("slo_requests_total") == told.of("slo_requests_total", outcome=outcome) == 1
    assert told.of("slo_output_tokens_total", outcome=outcome) == tokens
    assert told.of("ttft_seconds") == 1.5
    assert told.of("tpot_seconds") == (0.1 if tokens > 1 else None)


def test_ttft_of_a_request_is_its_latency_without_its_decoding() -> None:
    """10 tokens over 0.9 s: a latency of 2.4 s is no TTFT above 2 s."""
    told, _ = _record(_finished("a", 10, FinishReason.STOP))
    assert told.of("slo_requests_total", outcome="tpot") == 1


def test_our_own_question_is_nobodys_request() -> None:
    probe = _finished(f"{PROBE_PREFIX}1", 1, FinishReason.LENGTH)
    told, ended = _record(probe, firsts=(probe.e2e_latency, 0.25))
    assert ended == []
    assert told.of("slo_requests_total") is None
    assert told.of("ttft_seconds") == 0.25
