"""A host that is gone without a word: no FIN, no RST, no answer to keepalives.

The instance runs in a network namespace of its own, behind a pair of virtual interfaces; taking its
address away is what a power cut or a pulled cable looks like from here.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from front_harness import Front, Reply
from front_replica import Loop, Replica, free_port, wait_until
from test_front_reliability import BODY, Stream

HERE = Path(__file__).parent
NAMESPACE = f"rayserve{os.getpid()}"
# Test addresses of RFC 2544, which nobody routes to.
HERE_ADDRESS, THERE_ADDRESS = "198.18.77.1", "198.18.77.2"
# Keepalive: 3 s of silence, 4 probes 1 s apart; and a busy machine.
CUT_SECONDS = 12.0
INSTANCE = """
import asyncio, sys
sys.path.insert(0, sys.argv[1])
import front_replica
front_replica.STREAM_PAUSE_SECONDS = 60
one = front_replica.Replica("p", int(sys.argv[2]), mode=sys.argv[3], host=sys.argv[4])
loop = asyncio.new_event_loop()
loop.run_until_complete(one.start())
print("ready", flush=True)
loop.run_forever()
"""


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@dataclass
class Host:
    """A namespace with one address and instances in it, until it vanishes."""

    interface: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    def start(self, mode: str) -> Replica:
        """An instance on it."""
        port = free_port()
        words = [sys.executable, "-c", INSTANCE, str(HERE), str(port), mode, THERE_ADDRESS]
        process = subprocess.Popen(
            ["ip", "netns", "exec", NAMESPACE, *words], stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        return Replica("p", port, elsewhere=True, host=THERE_ADDRESS)

    def vanish(self) -> None:
        ip("-n", NAMESPACE, "address", "flush", "dev", self.interface)


@pytest.fixture
def host() -> Iterator[Host]:
    if os.geteuid() != 0 or shutil.which("ip") is None:
        pytest.skip("needs root and iproute2, to make a network namespace")
    near, far = f"rs{os.getpid()}a", f"rs{os.getpid()}b"
    try:
        ip("netns", "add", NAMESPACE)
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"no network namespaces here: {refused.stderr.strip()}")
    made = Host(far)
    try:
        ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", NAMESPACE)
        ip("address", "add", f"{HERE_ADDRESS}/30", "dev", near)
        ip("link", "set", near, "up")
        ip("-n", NAMESPACE, "address", "add", f"{THERE_ADDRESS}/30", "dev", far)
        ip("-n", NAMESPACE, "link", "set", far, "up")
        yield made
    finally:
        for process in made.processes:
            process.kill()
            process.wait()
        # The namespace's end takes its interfaces along only a while later.
        subprocess.run(["ip", "link", "delete", near], check=False, capture_output=True)
        ip("netns", "delete", NAMESPACE)


def test_its_streams_are_cut(host: Host, loop: Loop, tmp_path: Path) -> None:
    front = Front(tmp_path, loop, {("m", "/"): [host.start("stream")]})
    try:
        stream = Stream(front.port)
        assert stream.answer.read1(65536) == b"data: 0\n\n"
        host.vanish()
        gone = time.monotonic()
        stream.read()
    finally:
        front.stop()
    assert stream.cut_after is not None
    assert stream.cut_after - gone < CUT_SECONDS


def test_what_waits_there_is_answered_elsewhere(host: Host, loop: Loop, tmp_path: Path) -> None:
    near = Replica("b", free_port())
    front = Front(tmp_path, loop, {("m", "/"): [host.start("hold"), near]})
    replies: list[Reply] = []
    try:
        wait_until(lambda: front.server_status("m", "p") == "UP", "the host's instance is up")
        threads = [
            threading.Thread(
                target=lambda name=name: replies.append(front.chat(BODY, **{"x-session-id": name}))
            )
            for name in "abcdefgh"
        ]
        for thread in threads:
            thread.start()
        time.sleep(1)
        there = len(threads) - len(replies)
        host.vanish()
        gone = time.monotonic()
        for thread in threads:
            thread.join()
    finally:
        front.stop()
    assert there > 0, "none waited on the host"
    assert [reply.status for reply in replies] == [200] * len(threads)
    assert time.monotonic() - gone < CUT_SECONDS
