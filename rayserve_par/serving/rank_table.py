"""Where every rank of every instance runs, kept in Ray's own key-value store.

The executor writes one entry per DP rank when its workers are up, the replica one for the instance
when the placement is verified; both are keyed by the instance's placement group. `rayserve-par
status` reads all. An entry outlives a killed instance, so readers drop those whose actors Ray no
longer calls alive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

from ray.experimental import internal_kv

_NAMESPACE = b"rayserve_par"


@dataclass(frozen=True, slots=True)
class RankRecord:
    """One rank as its executor saw it: `rank` within the DP rank's world of tp x pp."""

    dp_rank: int
    rank: int
    bundle: int
    actor_id: str
    node_id: str
    gpu: int


@dataclass(frozen=True, slots=True)
class InstanceRecord:
    """One verified instance: `actor_id` is its replica's, `replica_id` Serve's name for it.

    Instances with the same `limits_of` share the limits of API keys.
    """

    group_id: str
    app: str
    replica_id: str
    actor_id: str
    model: str
    tp: int
    pp: int
    dp: int
    ep: int
    start_seconds: float
    limits_of: str = ""


def publish_instance(instance: InstanceRecord) -> None:
    """Write that an instance is up and where the plan wants it."""
    key = f"instances/{instance.group_id}".encode()
    internal_kv._internal_kv_put(key, json.dumps(asdict(instance)).encode(), namespace=_NAMESPACE)


def read_instances() -> tuple[InstanceRecord, ...]:
    """Read every instance that was ever verified and not forgotten, by app and replica."""
    records = [InstanceRecord(**record) for record in _read_all("instances/")]
    return tuple(sorted(records, key=lambda record: (record.app, record.replica_id)))


def publish_ranks(group_id: str, ranks: Iterable[RankRecord]) -> None:
    """Write the ranks of one DP rank of the instance in placement group `group_id` (hex)."""
    records = [asdict(rank) for rank in ranks]
    key = f"ranks/{group_id}/{records[0]['dp_rank']}".encode()
    internal_kv._internal_kv_put(key, json.dumps(records).encode(), namespace=_NAMESPACE)


def read_ranks(group_id: str) -> tuple[RankRecord, ...]:
    """Read all ranks of the instance in placement group `group_id`, by DP rank and rank."""
    lists = _read_all(f"ranks/{group_id}/")
    records = [RankRecord(**record) for records in lists for record in records]
    return tuple(sorted(records, key=lambda record: (record.dp_rank, record.rank)))


def forget_instance(group_id: str) -> None:
    """Delete what was written for placement group `group_id`."""
    for prefix in (f"ranks/{group_id}/", f"instances/{group_id}"):
        for key in internal_kv._internal_kv_list(prefix.encode(), namespace=_NAMESPACE):
            internal_kv._internal_kv_del(key, namespace=_NAMESPACE)


def _read_all(prefix: str) -> Iterator[Any]:
    for key in internal_kv._internal_kv_list(prefix.encode(), namespace=_NAMESPACE):
        value = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
        if value is not None:
            yield json.loads(value)
