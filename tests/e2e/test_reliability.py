"""What clients see under load while parts are killed and instances replaced: a small suite.

The whole one, with figures and more harms, is `make reliability`; what it still misses
(docs/reliability.md) is not among these.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from benchmarks.reliability.bench import Bench
from benchmarks.reliability.outcome import Kind
from benchmarks.reliability.scenario import Result, run_scenario
from benchmarks.reliability.scenarios import scenarios_by_name, two_instances
from tests.e2e.conftest import APP, Deployer

pytestmark = pytest.mark.engine

READY_SECONDS = 180.0


@pytest.fixture(scope="module")
def bench(deployer: Deployer) -> Iterator[Bench]:
    deployer.deploy(two_instances())
    yield Bench(deployer.cluster, app=APP, args=two_instances())
    # The scenarios have changed the application behind the deployer's back.
    deployer.delete()


@pytest.mark.parametrize("name", ["proxy-actor"])
def test_clients_are_answered_or_cut_at_once(bench: Bench, name: str) -> None:
    [scenario] = scenarios_by_name([name])
    assert bench.wait_until_serving(READY_SECONDS)
    result = run_scenario(bench, scenario, log=None)
    assert result.tally[Kind.ACCEPTED] > scenario.streams, figures(result)
    assert result.met, figures(result)


def figures(result: Result) -> str:
    missed = [str(target) for target in result.targets if not target.met]
    return f"missed: {missed}\n{result.document()}"
