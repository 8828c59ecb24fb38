"""Checks that what dashboards and rules ask for, and the labels they group by, are really there.

Ray's processes hand their metrics over every 10 s, so a rate needs requests before and after such
a moment, and a gauge that nobody sets again is gone after two of them: the checks last longer.

The controller's metrics exist only where an application is scaled by it, and vLLM's only where the
engine is real. So what names one of the controller's is asked on a scaled application of mock
engines, which start at once, and the rest on a real one. An alert is silent while all is well, so
its comparisons are asked with `bool`: they answer 0 or 1, and nothing only where data is missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from pathlib import Path

import httpx
import pytest

from grafana.expressions import Expression, all_expressions
from grafana.promql import metric_names, with_bool
from grafana.rules import RULES, Rule, all_rules
from rayserve_par.serving.metric_registry import CONTROLLER_METRICS
from tests.e2e.prometheus import Prometheus, PrometheusMissingError, prometheus_binary

_LIMIT_SECONDS = 120.0
_PAUSE_SECONDS = 1.0
_GAUGE_LIFE_SECONDS = 25.0
_REPORTED_SECONDS = 30.0
INSTANCES = '{__name__=~"ray_rayserve_par_.+",instance_id!=""}'
# vLLM's facts about its configuration (..._info) have no model's name.
ENGINES = '{__name__=~"ray_vllm_.+",__name__!~".+_info"}'
CONTROLLER = '{__name__=~"ray_rayserve_par_.+",application!=""}'
LABELS = {
    INSTANCES: ("model", "instance_id", "node"),
    ENGINES: ("model_name", "ReplicaId", "node", "NodeAddress"),
    CONTROLLER: ("application", "model"),
}
# As wide as Grafana's own for a scrape interval of 15 s.
_VARIABLES = {
    "__rate_interval": "1m",
    "__range": "5m",
    "gpu_price": "1",
    "objective": "0.99",
}


def everything_asked(model: str) -> tuple[Expression, ...]:
    """Every expression of dashboards and rules, recorded ones by their names as well."""
    shown = all_expressions({**_VARIABLES, "model": model})
    ruled = [
        Expression(rule.file, rule.name, with_bool(rule.expr) if rule.alert else rule.expr)
        for rule in all_rules()
    ]
    recorded = [Expression(rule.file, "as recorded", rule.name) for rule in _recorded()]
    return (*shown, *ruled, *recorded)


def of_controller(asked: Iterable[Expression]) -> tuple[Expression, ...]:
    """Those that name a metric of the controller, or a recorded rule that is made of one."""
    theirs = {name for metric in CONTROLLER_METRICS.values() for name in metric.series}
    for rule in _recorded():
        if metric_names(rule.expr) & theirs:
            theirs.add(rule.name)
    return tuple(each for each in asked if metric_names(each.expr) & theirs)


def check_expressions(
    session_folder: str,
    http_port: int,
    model: str,
    asked: Iterable[Expression],
    selectors: Iterable[str],
    *,
    alone: bool = False,
) -> None:
    """Send requests to `model` until everything in `asked` has data.

    Afterwards every series of `selectors` must have its labels, and every request must have been
    counted: once, where nobody else has sent any (`alone`). The cluster's dashboard must run:
    it writes the file through which Prometheus finds the nodes. Skips the test, with the reason,
    where there is no Prometheus to be had.

    Raises:
        AssertionError: an expression had no data in time, a series lacks a label, or a request was
            not counted.
    """
    try:
        binary = prometheus_binary()
    except PrometheusMissingError as reason:
        pytest.skip(f"no Prometheus: {reason}")
    expressions = tuple(asked)
    assert expressions
    discovery_file = Path(session_folder, "ray", "prom_metrics_service_discovery.json")
    assert discovery_file.is_file(), f"{discovery_file} is missing: start the dashboard first"
    started = time.monotonic()
    with (
        Prometheus(binary, discovery_file, rule_files=[RULES / "*.yaml"]) as prometheus,
        httpx.Client(base_url=f"http://127.0.0.1:{http_port}", timeout=60.0) as client,
    ):
        sent = 0
        while True:
            _ask(client, model, stream=False)
            _ask(client, model, stream=True)
            sent += 2
            missing = [each for each in expressions if not _has_data(prometheus, each)]
            seconds = time.monotonic() - started
            if seconds > (_LIMIT_SECONDS if missing else _GAUGE_LIFE_SECONDS):
                break
            time.sleep(_PAUSE_SECONDS)
        assert not missing, f"no data after {_LIMIT_SECONDS:.0f} s for:\n" + "\n".join(
            map(str, missing)
        )
        _check_labels(prometheus, selectors)
        _check_counts(prometheus, model, sent, alone=alone)


def _recorded() -> list[Rule]:
    return [rule for rule in all_rules() if not rule.alert]


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


def _check_labels(prometheus: Prometheus, selectors: Iterable[str]) -> None:
    for selector in selectors:
        samples = prometheus.query(selector)
        assert samples, f"no series match {selector}"
        for sample in samples:
            lacking = [label for label in LABELS[selector] if not sample.labels.get(label)]
            assert not lacking, f"{sample.labels['__name__']} lacks {lacking}: {sample.labels}"


def _check_counts(prometheus: Prometheus, model: str, sent: int, *, alone: bool) -> None:
    for metric in ("ray_rayserve_par_slo_requests_total", "ray_rayserve_par_ttft_seconds_count"):
        end = time.monotonic() + _REPORTED_SECONDS
        counted = 0.0
        while counted < sent and time.monotonic() < end:
            time.sleep(_PAUSE_SECONDS)
            # Also of instances that have ended since.
            [sample] = prometheus.query(f'sum(max_over_time({metric}{{model="{model}"}}[10m]))')
            counted = sample.value
        assert counted == sent if alone else counted >= sent, f"{metric}: {counted} of {sent}"
