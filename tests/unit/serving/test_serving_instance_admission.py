"""What a replica's admission takes from Ray's tables."""

import pytest

pytest.importorskip("ray", reason="the tables are Ray's")

from rayserve_par.serving import instance_admission
from rayserve_par.serving.admission.own_share import OwnShare, limits_of
from rayserve_par.serving.instance_admission import share_now
from rayserve_par.serving.rank_table import InstanceRecord

POOL = limits_of("slow", ("chat",), "H100")


def record(app: str, replica: str, node_group: str | None) -> InstanceRecord:
    limits = limits_of(app, ("chat",), node_group)
    return InstanceRecord(
        f"group-{replica}", app, replica, f"actor-{replica}", "chat", 1, 1, 1, 1, 2.0, limits
    )


def test_a_share_is_among_the_living_instances_with_the_same_limits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    records = [
        record("slow", "s1", "H100"),
        record("fast", "f1", "H200"),
        record("fast", "f2", "H200"),
        record("fast", "ended", "H200"),
        record("other", "o1", None),
    ]
    alive = {f"actor-{name}": "node" for name in ("s1", "f1", "f2", "o1")}
    monkeypatch.setattr(instance_admission, "read_instances", lambda: tuple(records))
    monkeypatch.setattr(instance_admission, "actor_nodes", lambda: alive)
    shares = [share_now(POOL, name) for name in ("f1", "f2", "s1")]
    assert shares == [OwnShare(0, 3), OwnShare(1, 3), OwnShare(2, 3)]
    assert share_now(limits_of("other", ("chat",), None), "o1") == OwnShare(0, 1)
    # One that has started just now and whose record is not there yet.
    assert share_now(POOL, "a0") == OwnShare(0, 4)
