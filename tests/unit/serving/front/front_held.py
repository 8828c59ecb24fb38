"""Requests kept in flight, to see which instance each was sent to."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from front_harness import Front
from front_replica import wait_until


@contextmanager
def held(front: Front, bodies: Sequence[object], **headers: str) -> Iterator[Counter[str]]:
    """`bodies` in flight, sent one after another; yields how many wait at each replica."""
    for one in front.replicas:
        one.mode = "hold"
        front.loop.loop.call_soon_threadsafe(one.released.clear)
    threads = []
    for number, body in enumerate(bodies):
        threads.append(threading.Thread(target=front.chat, args=(body,), kwargs=headers))
        threads[-1].start()
        wait_until(lambda sent=number + 1: in_flight(front) == sent, "it has arrived")
    try:
        yield Counter({one.name: one.in_flight for one in front.replicas})
    finally:
        for one in front.replicas:
            one.mode = "ok"
            front.loop.loop.call_soon_threadsafe(one.released.set)
        for thread in threads:
            thread.join()


def in_flight(front: Front) -> int:
    """Requests that wait at any of its replicas."""
    return sum(one.in_flight for one in front.replicas)
