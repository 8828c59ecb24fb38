"""A real Prometheus answers every expression of dashboards and rules on made-up series.

The same is asked of a running cluster in tests/e2e; here nothing has to run, so it also covers what
no local cluster shows, and fails in seconds.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from made_up_node import MODEL, MadeUpNode

from grafana.expressions import Expression
from grafana.rules import RULES
from tests.e2e.metrics_checks import everything_asked, of_controller
from tests.e2e.prometheus import Prometheus, PrometheusMissingError, prometheus_binary

LIMIT_SECONDS = 30.0


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    try:
        binary = prometheus_binary()
    except PrometheusMissingError as reason:
        pytest.skip(f"no Prometheus: {reason}")
    discovery = Path(tmp_path_factory.mktemp("ray"), "targets.json")
    with MadeUpNode() as node:
        targets = [{"labels": {"job": "ray"}, "targets": [node.target]}]
        discovery.write_text(json.dumps(targets), encoding="utf-8")
        with Prometheus(binary, discovery, rule_files=[RULES / "*.yaml"]) as running:
            yield running


def _answers(prometheus: Prometheus, asked: Expression) -> bool:
    return any(math.isfinite(sample.value) for sample in prometheus.query(asked.expr))


def test_every_expression_answers(prometheus: Prometheus) -> None:
    missing = list(everything_asked(MODEL))
    assert len(missing) > 100
    end = time.monotonic() + LIMIT_SECONDS
    while missing and time.monotonic() < end:
        time.sleep(1.0)
        missing = [each for each in missing if not _answers(prometheus, each)]
    assert not missing, "no data for:\n" + "\n".join(map(str, missing))


def test_what_needs_the_controller_is_told_apart() -> None:
    asked = everything_asked(MODEL)
    controlled = of_controller(asked)
    assert 0 < len(controlled) < len(asked)
    assert all("_vllm_" not in each.expr for each in controlled), (
        "asked on mock engines, which have no metrics of vLLM's"
    )
    assert any("application:rayserve_par_step_correction:max" in e.expr for e in controlled)
