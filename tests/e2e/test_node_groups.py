"""One model on nodes of two kinds, as two applications behind one name, on a real cluster.

The engines are mocks, so that GPUs of a real kind can be counted; their answers' lengths say which
application answered. Everything around them is the real thing.
"""

from __future__ import annotations

import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from rayserve_par.control.live.gpu_view import read_gpu_view
from rayserve_par.serving.cluster_view import gpu_kinds
from tests.e2e.conftest import Deployer
from tests.e2e.open_load import OpenLoad
from tests.e2e.two_kinds import KIND, deployed_on_two_kinds
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.engine

STEP_SECONDS = {"slow": 0.06, "fast": 0.02}
ANSWER_TOKENS = {"slow": 8, "fast": 12}
APP_OF = {tokens: app for app, tokens in ANSWER_TOKENS.items()}
RECOVERY_SECONDS = 90.0


def args_of(app: str) -> dict[str, Any]:
    return {
        "model": "tiny-llama",
        "served_model_name": "chat",
        "node_group": KIND[app],
        "layout": {"tp": 1},
        "workload": {"isl": 64, "osl": 16},
        "mock_engine": {
            "step_base_seconds": STEP_SECONDS[app],
            "max_num_seqs": 16,
            "answer_tokens": ANSWER_TOKENS[app],
        },
    }


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer) -> Iterator[None]:
    with deployed_on_two_kinds(deployer, args_of):
        yield


def ask(deployer: Deployer, number: int) -> tuple[int, str]:
    """Status, and which application answered."""
    body = {"model": "chat", "prompt": f"{number} " * 200}
    answer = httpx.post(f"{deployer.url}/v1/completions", json=body, timeout=60)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    return 200, APP_OF[answer.json()["usage"]["completion_tokens"]]


def stream(deployer: Deployer, number: int) -> str:
    """Which application streamed an answer; the stream ends as it should."""
    options = {"stream": True, "stream_options": {"include_usage": True}}
    body = {"model": "chat", "prompt": f"stream {number} " * 200, **options}
    url = f"{deployer.url}/v1/completions"
    with httpx.stream("POST", url, json=body, timeout=60) as answer:
        assert answer.status_code == 200
        lines = [line for line in answer.iter_lines() if line.startswith("data: ")]
    assert lines[-1] == "data: [DONE]"
    assert len(lines) > 3
    usage = json.loads(lines[-2].removeprefix("data: "))["usage"]
    return APP_OF[usage["completion_tokens"]]


def test_each_application_is_on_its_nodes(deployer: Deployer) -> None:
    kinds = gpu_kinds()
    nodes = {one.app: set(one.held.gpus) for one in read_gpu_view().groups}
    assert {app: {kinds[node] for node in found} for app, found in nodes.items()} == {
        app: {kind} for app, kind in KIND.items()
    }
    listed = httpx.get(f"{deployer.url}/v1/models").json()["data"]
    assert [one["id"] for one in listed] == ["chat"]


def test_the_name_reaches_both_and_the_faster_one_more(deployer: Deployer) -> None:
    with ThreadPoolExecutor(max_workers=16) as threads:
        answers = Counter(threads.map(lambda number: ask(deployer, number), range(160)))
    print(answers)
    assert set(answers) == {(200, "slow"), (200, "fast")}
    assert answers[200, "fast"] > 1.5 * answers[200, "slow"]
    assert {stream(deployer, number) for number in range(24)} == {"slow", "fast"}


def test_an_application_that_loses_its_only_replica_is_not_missed(deployer: Deployer) -> None:
    app = deployer.client.app("slow")
    assert app is not None
    [replica] = app.replicas
    body = {"model": "chat", "prompt": "a " * 64, "max_tokens": 8}
    with OpenLoad(deployer.url, body, 15) as load:
        wait_until(lambda: load.outcomes["200"] > 20, 30)
        os.kill(int(replica["pid"]), signal.SIGKILL)
        alone = [ask(deployer, number) for number in range(12)]
        streamed = {stream(deployer, 100 + number) for number in range(3)}
        wait_until(lambda: ask(deployer, load.outcomes["200"]) == (200, "slow"), RECOVERY_SECONDS)
    print(f"{load.outcomes}; {Counter(alone)} just after the death, streams by {streamed}")
    assert load.all_served, load.outcomes
    assert {status for status, _ in alone} == {200}
    assert (200, "fast") in alone
