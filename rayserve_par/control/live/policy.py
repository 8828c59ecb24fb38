"""Ray Serve's `AutoscalingPolicy`: reads Serve's context, and leaves the rest to `controller.py`.

Serve pickles this module by value into its controller, so it holds nothing but this thin edge.
"""

from __future__ import annotations

from typing import Any


class ServePolicy:
    """Made by Serve with `policy_kwargs`, then called at each of its looks."""

    def __init__(self, **kwargs: Any) -> None:
        from rayserve_par.control.live.policy_edge import PolicyEdge

        self._edge = PolicyEdge(kwargs)

    def __call__(self, ctx: Any) -> tuple[int, dict[str, Any]]:
        """The number of replicas to aim at; no state that Serve would have to keep."""
        return self._edge.number(ctx), {}
