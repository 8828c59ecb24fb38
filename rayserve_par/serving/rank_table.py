"""Where every rank of every instance runs, kept in Ray's own key-value store.

The executor writes one entry per DP rank when its workers are up (key: placement group id and DP
rank); the replica reads its own to verify the placement, `rayserve-par status` reads all. An entry
outlives a killed instance, so readers drop those whose actors Ray no longer calls alive.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

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


def publish_ranks(group_id: str, ranks: Iterable[RankRecord]) -> None:
    """Write the ranks of one DP rank of the instance in placement group `group_id` (hex)."""
    records = [asdict(rank) for rank in ranks]
    key = f"ranks/{group_id}/{records[0]['dp_rank']}".encode()
    internal_kv._internal_kv_put(key, json.dumps(records).encode(), namespace=_NAMESPACE)


def read_ranks(group_id: str) -> tuple[RankRecord, ...]:
    """Read all ranks of the instance in placement group `group_id`, by DP rank and rank."""
    prefix = f"ranks/{group_id}/".encode()
    records: list[RankRecord] = []
    for key in internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE):
        value = internal_kv._internal_kv_get(key, namespace=_NAMESPACE)
        if value is not None:
            records += [RankRecord(**record) for record in json.loads(value)]
    return tuple(sorted(records, key=lambda record: (record.dp_rank, record.rank)))


def forget_ranks(group_id: str) -> None:
    """Delete what was written for placement group `group_id`."""
    prefix = f"ranks/{group_id}/".encode()
    for key in internal_kv._internal_kv_list(prefix, namespace=_NAMESPACE):
        internal_kv._internal_kv_del(key, namespace=_NAMESPACE)
