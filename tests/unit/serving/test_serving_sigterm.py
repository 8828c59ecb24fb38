"""The first SIGTERM drains, where there is something to drain; all others are Ray's."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from rayserve_par.serving import sigterm
from rayserve_par.serving.app import _SERVE_ENV


@pytest.fixture(autouse=True)
def nothing_to_drain() -> Iterator[None]:
    sigterm._drains.clear()
    yield
    sigterm._drains.clear()


def handled(drains: int, signals: int) -> tuple[int, int]:
    """How often something was drained, and how often Ray's handler was called."""
    drained, ours = threading.Semaphore(0), []
    for _ in range(drains):
        sigterm.drain_on_sigterm(drained.release)
    handler = sigterm.in_front_of(lambda number, _: ours.append(number))
    for _ in range(signals):
        handler(signal.SIGTERM, None)
    count = 0
    while drained.acquire(timeout=0.5):
        count += 1
    return count, len(ours)


@pytest.mark.parametrize(
    ("drains", "signals", "expected"),
    [(0, 1, (0, 1)), (1, 0, (0, 0)), (1, 1, (1, 0)), (1, 2, (1, 1)), (1, 3, (1, 2))],
)
def test_who_handles_a_signal(drains: int, signals: int, expected: tuple[int, int]) -> None:
    assert handled(drains, signals) == expected


def test_ray_runs_the_hook_and_finds_its_handler_wrapped() -> None:
    """As Ray does it: the hook by its import path, then its own handler."""
    pytest.importorskip("ray")
    program = """
import os, signal, sys, threading
from ray._private import ray_constants, utils
from ray._private.runtime_env.setup_hook import load_and_execute_setup_hook
path = os.environ[ray_constants.WORKER_PROCESS_SETUP_HOOK_ENV_VAR]
assert load_and_execute_setup_hook(path) is None
utils.set_sigterm_handler(lambda number, frame: print("ray", flush=True))
from rayserve_par.serving.sigterm import drain_on_sigterm
drained = threading.Event()
drain_on_sigterm(drained.set)
os.kill(os.getpid(), signal.SIGTERM)
assert drained.wait(10)
print("drained", flush=True)
os.kill(os.getpid(), signal.SIGTERM)
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, **_SERVE_ENV},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.split() == ["drained", "ray"]


def test_the_hook_s_path_is_that_of_the_function() -> None:
    module, _, name = next(iter(sigterm.SETUP_HOOK_ENV.values())).rpartition(".")
    found: Callable[[], None] = getattr(sys.modules[module], name)
    assert found is sigterm.install
