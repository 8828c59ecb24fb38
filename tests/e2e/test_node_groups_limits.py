"""A key's limits over two applications behind one name, on a real cluster with mock engines."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import ray

from rayserve_par.control.replanning.document import DEPLOYMENT
from rayserve_par.serving.admission.keys import hash_of, new_secret
from rayserve_par.serving.admission.own_share import OwnShare, limits_of
from rayserve_par.serving.admission.ray_ledger import NAMESPACE, actor_name
from rayserve_par.serving.instance_admission import share_now
from tests.e2e.conftest import Deployer
from tests.e2e.two_kinds import KIND, deployed_on_two_kinds
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.engine

LIMITS = {"rate": {"requests_per_minute": 30}, "few": {"concurrency": 5}}
SECRETS = {name: new_secret() for name in LIMITS}
NAMES = ("chat",)


@pytest.fixture(scope="module", autouse=True)
def deployed(deployer: Deployer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    file = tmp_path_factory.mktemp("keys") / "keys.yaml"
    entries = [
        f"- {{name: {name}, sha256: {hash_of(SECRETS[name])}, limits: {limits}}}\n"
        for name, limits in LIMITS.items()
    ]
    file.write_text("keys:\n" + "".join(entries).replace("'", ""), "utf-8")
    with deployed_on_two_kinds(deployer, lambda app: args_of(app, file)):
        yield


def args_of(app: str, keys: Path) -> dict[str, Any]:
    return {
        "model": "tiny-llama",
        "served_model_name": NAMES[0],
        "node_group": KIND[app],
        "layout": {"tp": 1},
        "workload": {"isl": 64, "osl": 16},
        "admission": {"keys_file": str(keys)},
        "mock_engine": {"step_base_seconds": 0.02, "max_num_seqs": 16, "answer_tokens": 100},
    }


def ask(deployer: Deployer, key: str, app: str, tokens: int) -> int:
    """The status of a request to one application, by its prefix."""
    body = {"model": NAMES[0], "prompt": "a " * 32, "max_tokens": tokens}
    headers = {"authorization": f"Bearer {SECRETS[key]}"}
    url = f"{deployer.url}/{app}/v1/completions"
    return httpx.post(url, json=body, headers=headers, timeout=60).status_code


def ask_at_once(deployer: Deployer, key: str, count: int, tokens: int) -> Counter[tuple[str, int]]:
    """So many requests, every other one to each application: where to, and status."""
    apps = [list(KIND)[n % len(KIND)] for n in range(count)]
    with ThreadPoolExecutor(max_workers=count) as threads:
        statuses = list(threads.map(lambda app: ask(deployer, key, app, tokens), apps))
    return Counter(zip(apps, statuses, strict=True))


def served(answers: Counter[tuple[str, int]]) -> int:
    assert {status for _, status in answers} <= {200, 429}, answers
    return sum(count for (_, status), count in answers.items() if status == 200)


def test_requests_a_minute_are_of_both_applications_together(deployer: Deployer) -> None:
    began = time.monotonic()
    answers: Counter[tuple[str, int]] = Counter()
    for _ in range(6):
        answers += ask_at_once(deployer, "rate", 16, tokens=1)
    seconds = time.monotonic() - began
    print(f"{answers} in {seconds:.1f} s")
    assert 30 <= served(answers) <= 31 + seconds / 2
    assert answers["slow", 200] > 0
    assert answers["fast", 200] > 0


def test_requests_at_once_are_of_both_applications_together(deployer: Deployer) -> None:
    """Each takes 2 s, so that all of them are under way together."""
    answers = ask_at_once(deployer, "few", 20, tokens=100)
    print(answers)
    assert served(answers) == 5
    wait_until(lambda: ask(deployer, "few", "fast", 1) == 200, 10)


def test_there_is_one_ledger_and_shares_follow_the_number(deployer: Deployer) -> None:
    limits = {limits_of(app, NAMES, kind) for app, kind in KIND.items()}
    assert len(limits) == 1
    [shared] = limits
    ledgers = [
        one["name"]
        for one in ray.util.list_named_actors(all_namespaces=True)
        if one["namespace"] == NAMESPACE
    ]
    assert actor_name(shared) in ledgers
    assert not [name for name in ledgers if "slow" in name or "fast" in name]

    def shares() -> set[OwnShare]:
        replicas = [
            str(replica["replica_id"])
            for app in KIND
            if (state := deployer.client.app(app)) is not None
            for replica in state.replicas
        ]
        return {share_now(shared, replica) for replica in replicas}

    assert shares() == {OwnShare(0, 2), OwnShare(1, 2)}

    def two_of_the_slow(config: dict[str, Any]) -> dict[str, Any]:
        return {**config, "deployments": [{"name": DEPLOYMENT, "num_replicas": 2}]}

    deployer.client.redeploy("slow", two_of_the_slow)
    wait_until(lambda: shares() == {OwnShare(place, 3) for place in range(3)}, 60)
    answers = ask_at_once(deployer, "few", 20, tokens=100)
    print(answers)
    assert served(answers) == 5
