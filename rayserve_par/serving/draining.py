"""Whether Serve has told this replica to finish its requests and leave.

Serve tells the replica's actor and not the code in it; its own object in this process knows
(Ray 2.60, ray/serve/_private/replica.py, `ReplicaActor` and `Replica._perform_graceful_shutdown`).
"""

from __future__ import annotations

import logging
from functools import cache
from typing import Any

logger = logging.getLogger("ray.serve")

# What is used of Serve's `ReplicaActor`, and of the object that this holds.
HELD_NAME = "_replica_impl"
TOLD_NAME = "_shutting_down"


def actor_of_this_process() -> Any | None:
    """The actor that Ray runs in this process; None where it runs none."""
    from ray._private.worker import global_worker

    return global_worker.actors.get(global_worker.actor_id)


def drains(actor: Any) -> bool:
    """Whether Serve's actor of a replica was told to leave; False where that cannot be seen."""
    held = getattr(actor, HELD_NAME, None)
    if not hasattr(held, TOLD_NAME):
        _warn()
        return False
    return bool(getattr(held, TOLD_NAME))


@cache
def _warn() -> None:
    """Once for all questions, which come every ten seconds."""
    logger.warning("This release of Ray does not say in a replica whether it drains.")
