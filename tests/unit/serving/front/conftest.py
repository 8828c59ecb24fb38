"""A factory of running fronts, stopped after each module."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import pytest

pytest.importorskip("ray.serve._private.haproxy")

from front_harness import Front
from front_replica import Loop, Replica, free_port

MakeFront = Callable[..., Front]


@pytest.fixture(scope="module")
def loop() -> Iterator[Loop]:
    found = Loop()
    yield found
    found.close()


@pytest.fixture(scope="module")
def make_front(loop: Loop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MakeFront]:
    """`make_front({(app, prefix): [replica names]}, names={app: model names}, **environment)`.

    `loads` is what the replicas of an app say beside (`front_replica.Replica.load`); those of
    `silent` apps say nothing.
    """
    started: list[Front] = []

    def make(
        apps: dict[tuple[str, str], list[str]],
        names: dict[str, tuple[str, ...]] | None = None,
        proxy: bool = False,
        loads: dict[str, dict[str, Any]] | None = None,
        silent: Collection[str] = (),
        **environment: str,
    ) -> Front:
        replicas = {
            (app, prefix): [
                Replica(
                    name=one,
                    port=free_port(),
                    prefix="" if prefix == "/" else prefix,
                    names=(names or {}).get(app, (app,)),
                    load=dict((loads or {}).get(app, {})),
                    silent=app in silent,
                )
                for one in found
            ]
            for (app, prefix), found in apps.items()
        }
        # Ray's socket paths must be short.
        stand_in = Replica(name="proxy", port=free_port()) if proxy else None
        front = Front(tmp_path_factory.mktemp("f"), loop, replicas, environment, stand_in)
        started.append(front)
        return front

    yield make
    for front in started:
        front.stop()
