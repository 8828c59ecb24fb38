"""Checks that what the dashboards ask for, and the labels they group by, are really there.

Ray's processes hand their metrics over every 10 s, so a rate needs requests before and after such
a moment, and a gauge that nobody sets again is gone after two of them: the checks last longer.
"""

from __future__ import annotations

import math
import time
from pathlib import Path

import httpx
import pytest

from grafana.expressions import Expression, all_expressions
from tests.e2e.prometheus import Prometheus, PrometheusMissingError, prometheus_binary

_LIMIT_SECONDS = 90.0
_PAUSE_SECONDS = 1.0
_GAUGE_LIFE_SECONDS = 25.0
_LABELS = {
    '{__name__=~"ray_rayserve_par_.+"}': ("model", "instance_id", "node"),
    '{__name__=~"ray_vllm_.+"}': ("model_name", "ReplicaId", "node", "NodeAddress"),
}


def check_dashboards(session_folder: str, http_port: int, model: str) -> None:
    """Send requests to `model` until every expression of every dashboard has data.

    The cluster's dashboard must run: it writes the file through which Prometheus finds the nodes.
    Skips the test, with the reason, where there is no Prometheus to be had.

    Raises:
        AssertionError: an expression had no data in time, or a series lacks a label.
    """
    try:
        binary = prometheus_binary()
    except PrometheusMissingError as reason:
        pytest.skip(f"no Prometheus: {reason}")
    # As wide as Grafana's own for a scrape interval of 15 s.
    variables = {"model": model, "__rate_interval": "1m"}
    asked = all_expressions(variables)
    discovery_file = Path(session_folder, "ray", "prom_metrics_service_discovery.json")
    assert discovery_file.is_file(), f"{discovery_file} is missing: start the dashboard first"
    started = time.monotonic()
    with (
        Prometheus(binary, discovery_file) as prometheus,
        httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60.0) as client,
    ):
        while True:
            _ask(client, model, stream=False)
            _ask(client, model, stream=True)
            missing = [each for each in asked if not _has_data(prometheus, each)]
            seconds = time.monotonic() - started
            if seconds > (_LIMIT_SECONDS if missing else _GAUGE_LIFE_SECONDS):
                break
            time.sleep(_PAUSE_SECONDS)
        assert not missing, f"no data after {_LIMIT_SECONDS:.0f} s for:\n" + "\n".join(
            map(str, missing)
        )
        _check_labels(prometheus)


def _ask(client: httpx.Client, model: str, *, stream: bool) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": "What is the capital of France?"}],
        "max_tokens": 8,
        "stream": stream,
    }
    with client.stream("POST", "/v1/chat/completions", json=body) as answer:
        text = answer.read().decode()
    assert answer.status_code == httpx.codes.OK, text
    assert ("data: [DONE]" in text) is stream, text


def _has_data(prometheus: Prometheus, asked: Expression) -> bool:
    return any(math.isfinite(sample.value) for sample in prometheus.query(asked.expr))


def _check_labels(prometheus: Prometheus) -> None:
    for selector, labels in _LABELS.items():
        samples = prometheus.query(selector)
        assert samples, f"no series match {selector}"
        for sample in samples:
            lacking = [label for label in labels if not sample.labels.get(label)]
            assert not lacking, f"{sample.labels['__name__']} lacks {lacking}: {sample.labels}"
