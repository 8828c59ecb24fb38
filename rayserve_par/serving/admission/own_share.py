"""What an instance serves of a limit by itself, while there is no ledger. Pure.

    C limit, n instances that share it, i this one's place among them (0 to n - 1)
    units_i = C // n + (1 if i < C mod n else 0)

so the units of all are C, and each has one where C >= n. Below that only the first C instances
serve the key: with one each, they would serve more than the limit.

Limits are shared by what `limits_of` names: the instances of an application, or of all that are a
pool with it (the same names, each on a node group of its own).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class OwnShare:
    """The share of the instance at `place` among `instances`."""

    place: int = 0
    instances: int = 1

    @classmethod
    def of(cls, one: str, all_names: Iterable[str]) -> OwnShare:
        """The share of `one` among `all_names` and itself."""
        names = sorted({one, *all_names})
        return cls(names.index(one), len(names))

    def units(self, capacity: int) -> int:
        """Its units of `capacity`."""
        return capacity // self.instances + (self.place < capacity % self.instances)

    def refill_per_second(self, whole: float) -> float:
        """Its part of a bucket's refill."""
        return whole / self.instances


def limits_of(app: str, names: Sequence[str], node_group: str | None) -> str:
    """Whose limits are the same: the application's, or all's of its names on node groups."""
    if node_group is None:
        return f"application {app}"
    return f"names {json.dumps(sorted(set(names)))}"
