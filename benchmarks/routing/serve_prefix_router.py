"""Ray Serve LLM's prefix router as a policy of the SIMULATION, on Ray's own prefix tree.

The tree is `PrefixTree` of ray.llm (prefix_tree.py); around it stand the rules of
`PrefixCacheAffinityRouter` (prefix_aware_router.py, Ray 2.60), which in Serve needs actors:

1. If the longest and the shortest queue differ by more than `imbalanced_threshold` (infinite by
   default): two at random.
2. Else the instances that share the longest prefix of the text, if it covers at least 10% of it;
   if not, the instances with the smallest trees.
3. Of these the one with the shortest queue; the text goes into its tree.

Left out: the Python hops in which Serve runs this router, and its stale queue lengths.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from benchmarks.routing.simulate import Policy

_MATCH_RATE_THRESHOLD = 0.1


def serve_prefix_router(
    instances: int, seed: int, imbalanced_threshold: float = float("inf")
) -> Policy:
    """The policy; imports ray, which takes seconds."""
    from ray.llm._internal.serve.routing_policies.prefix_aware.prefix_tree import PrefixTree

    draw = Random(seed)
    tree = PrefixTree()
    tenants = [str(number) for number in range(instances)]
    tree.add_tenants(tenants, 0.0)

    def candidates(text: str, in_flight: Sequence[int]) -> list[str]:
        if max(in_flight) - min(in_flight) > imbalanced_threshold:
            return draw.sample(tenants, 2)
        matched, owners = tree.prefix_match(text, tenants)
        if len(matched) / len(text) < _MATCH_RATE_THRESHOLD:
            owners = tree.get_smallest_tenants()
        return list(owners or draw.sample(tenants, 2))

    def choose(text: str, in_flight: Sequence[int], now: float) -> int:
        among = candidates(text, in_flight)
        draw.shuffle(among)
        chosen = min(among, key=lambda tenant: in_flight[int(tenant)])
        tree.insert(text, chosen, now)
        return int(chosen)

    return choose
