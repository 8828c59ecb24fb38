"""What happens to requests when instances refuse, die, drain, or HAProxy is reloaded."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import pytest
from front_harness import Front
from front_replica import (
    STREAM_CHUNKS,
    STREAM_PAUSE_SECONDS,
    Loop,
    Replica,
    free_port,
    wait_until,
)

HERE = Path(__file__).parent
BODY = {"model": "m", "messages": [{"role": "user", "content": "hello " * 40}]}


@pytest.fixture(scope="module")
def pair(make_front: Callable[..., Front]) -> Front:
    return make_front({("m", "/"): ["a", "b"]})


@pytest.fixture
def front(pair: Front) -> Iterator[Front]:
    """Both instances alive and idle, before and after."""
    wait_until(lambda: all(up(pair, one) for one in pair.replicas), "both are up")
    time.sleep(0.6)  # the next poll has seen it too
    for one in pair.replicas:
        one.requests.clear()
    yield pair
    for one in pair.replicas:
        one.mode, one.health, one.load, one.frozen = "ok", 200, {}, False
        one.released.set()
        pair.loop.run(one.kill())
        pair.loop.run(one.start())


def up(front: Front, replica: Replica) -> bool:
    return front.server_status("m", replica.name) == "UP"


def preferred(front: Front) -> tuple[Replica, Replica]:
    """The instance that gets BODY, and the other."""
    first = front.chosen(BODY)
    a, b = front.replicas
    for one in (a, b):
        one.requests.clear()
    return (a, b) if a.name == first else (b, a)


class Stream:
    """A streamed answer, with the time at which each piece came."""

    def __init__(self, port: int, body: object = BODY) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        self.connection.request("POST", "/v1/chat/completions", json.dumps(body).encode())
        self.answer = self.connection.getresponse()
        self.pieces: list[tuple[float, bytes]] = []
        self.cut_after: float | None = None

    def read(self) -> Stream:
        try:
            while piece := self.answer.read1(65536):
                self.pieces.append((time.monotonic(), piece))
        except (http.client.IncompleteRead, ConnectionError):
            self.cut_after = time.monotonic()
        self.connection.close()
        return self

    @property
    def text(self) -> str:
        return b"".join(piece for _, piece in self.pieces).decode()


WHOLE = "".join(f"data: {number}\n\n" for number in range(STREAM_CHUNKS))


def test_a_stream_arrives_as_it_is_made(front: Front) -> None:
    for one in front.replicas:
        one.mode = "stream"
    stream = Stream(front.port).read()
    assert stream.text == WHOLE
    gaps = [b[0] - a[0] for a, b in pairwise(stream.pieces)]
    assert len(gaps) == STREAM_CHUNKS - 1
    assert min(gaps) > STREAM_PAUSE_SECONDS / 4


@pytest.mark.parametrize("mode", ["shed", "close", "reset"])
def test_a_request_that_got_nothing_is_sent_once_to_the_other(front: Front, mode: str) -> None:
    first, second = preferred(front)
    first.mode = mode
    for _ in range(5):
        assert front.chosen(BODY) == second.name
    assert len(first.requests) == 5, "the policy still prefers it: each was a retry"
    assert [one.body for one in second.requests] == [json.dumps(BODY).encode()] * 5


def test_a_dead_instance_costs_no_request(front: Front) -> None:
    """Neither the first, whose kept connection is gone, nor the one at which it is marked down."""
    first, second = preferred(front)
    front.loop.run(first.kill())
    for _ in range(8):
        assert front.chosen(BODY) == second.name
    wait_until(lambda: not up(front, first), "it is marked down")


def test_requests_that_wait_when_their_instance_dies_are_answered(front: Front) -> None:
    first, second = preferred(front)
    session = {"x-session-id": "one"}
    while front.chosen(BODY, **session) == second.name:
        session["x-session-id"] += "x"
    first.mode = "hold"
    first.released.clear()
    statuses: list[int] = []
    threads = [
        threading.Thread(target=lambda: statuses.append(front.chat(BODY, **session).status))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: first.in_flight >= 2, "some wait there")
    time.sleep(0.5)  # for the others to arrive, here or there
    front.loop.run(first.kill())
    for thread in threads:
        thread.join()
    assert statuses == [200] * 4


def test_a_retry_happens_once(front: Front) -> None:
    for one in front.replicas:
        one.mode = "shed"
    reply = front.chat(BODY)
    assert (reply.status, reply.headers["x-rayserve-par-shed"]) == (503, "1")
    assert sorted(len(one.requests) for one in front.replicas) == [1, 1]


def test_a_started_answer_is_not_retried_and_a_dead_instance_cuts_it(front: Front) -> None:
    for one in front.replicas:
        one.mode = "stream"
    first, second = preferred_stream(front)
    stream = Stream(front.port)
    stream.answer.read1(65536)
    killed = time.monotonic()
    front.loop.run(first.kill())
    stream.read()
    assert stream.cut_after is not None
    assert stream.cut_after - killed < 0.5
    assert second.requests == []


def test_an_instance_that_hangs_is_given_up(front: Front) -> None:
    """Its streams end; what it has not begun to answer is answered by the other."""
    first, second = preferred_stream(front)
    stream = Stream(front.port)
    stream.answer.read1(65536)
    second.mode = "ok"
    frozen = time.monotonic()
    first.frozen = True
    assert front.chosen(BODY) == second.name
    stream.read()
    assert stream.cut_after is not None
    assert 4 < stream.cut_after - frozen < 20


def preferred_stream(front: Front) -> tuple[Replica, Replica]:
    for one in front.replicas:
        one.mode = "ok"
    found = preferred(front)
    for one in front.replicas:
        one.mode = "stream"
    return found


def test_a_draining_instance_finishes_its_streams_and_gets_no_new_ones(front: Front) -> None:
    first, second = preferred_stream(front)
    stream = Stream(front.port)
    reading = threading.Thread(target=stream.read)
    reading.start()
    first.health, first.load = 503, {"draining": True}
    wait_until(lambda: not up(front, first), "the draining one is out")
    assert front.server_status("m", first.name).startswith("NOLB")
    second.mode = "ok"
    time.sleep(0.6)
    assert {front.chosen(BODY) for _ in range(5)} == {second.name}
    reading.join()
    assert (stream.text, stream.cut_after) == (WHOLE, None)


def test_a_waiting_request_s_connection_is_probed(front: Front) -> None:
    """A host that is gone sends no FIN: keepalive finds out (timer 2 of /proc/net/tcp)."""
    first, _ = preferred(front)
    first.mode = "hold"
    first.released.clear()
    waiting = threading.Thread(target=front.chat, args=(BODY,))
    waiting.start()
    wait_until(lambda: first.in_flight == 1, "the request is there")
    time.sleep(0.3)  # until what was sent has been acknowledged, another timer runs
    rows = [line.split() for line in Path("/proc/net/tcp").read_text("utf-8").splitlines()]
    established = [row for row in rows if row[2].endswith(f":{first.port:04X}") and row[3] == "01"]
    timers = [row[5].split(":") for row in established]
    assert timers
    assert all(kind == "02" and int(left, 16) <= 300 for kind, left in timers)
    front.loop.loop.call_soon_threadsafe(first.released.set)
    waiting.join()


def test_a_client_that_leaves_frees_the_instance(front: Front) -> None:
    first, _ = preferred(front)
    first.mode = "hold"
    first.released.clear()
    raw = json.dumps(BODY).encode()
    with socket.create_connection(("127.0.0.1", front.port)) as client:
        head = f"POST /v1/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(raw)}\r\n\r\n"
        client.sendall(head.encode() + raw)
        wait_until(lambda: first.in_flight == 1, "it waits")
        stats = front.loop.run(front.api.get_haproxy_stats())
        assert stats.total_active_sessions == 1
    wait_until(
        lambda: front.loop.run(front.api.get_haproxy_stats()).total_active_sessions == 0,
        "the session is gone",
    )


def test_streams_run_through_a_reload_and_the_old_process_leaves(front: Front) -> None:
    for one in front.replicas:
        one.mode = "stream"
    streams = [Stream(front.port) for _ in range(4)]
    threads = [threading.Thread(target=one.read) for one in streams]
    for thread in threads:
        thread.start()
    front.reload()
    for thread in threads:
        thread.join()
    assert [(one.text, one.cut_after) for one in streams] == [(WHOLE, None)] * 4
    wait_until(lambda: not front.api.has_alive_old_procs(), "the old process has left", 20)


def test_no_request_fails_while_haproxy_is_reloaded(front: Front) -> None:
    statuses: list[int] = []
    done = threading.Event()

    def ask() -> None:
        while not done.is_set():
            statuses.append(front.chat(BODY).status)

    threads = [threading.Thread(target=ask) for _ in range(2)]
    for thread in threads:
        thread.start()
    front.reload()
    done.set()
    for thread in threads:
        thread.join()
    assert len(statuses) > 10
    assert set(statuses) == {200}


def test_a_lone_instance_that_sheds_is_asked_once(make_front: Callable[..., Front]) -> None:
    front = make_front({("m", "/"): ["a"]})
    (only,) = front.replicas
    only.mode = "shed"
    assert front.chat(BODY).status == 503
    assert len(only.requests) == 1
    assert only.polls == [], "nothing depends on its load"
    front.loop.run(only.kill())
    reply = front.chat(BODY)
    assert (reply.status, reply.headers["retry-after"], reply.error["code"]) == (503, "5", 503)


def test_a_killed_process_ends_its_streams_at_once(
    loop: Loop, tmp_path_factory: pytest.TempPathFactory
) -> None:
    port = free_port()
    elsewhere = Replica("p", port, elsewhere=True)
    code = (
        "import asyncio, sys; sys.path.insert(0, sys.argv[1]);"
        "from front_replica import Replica;"
        "one = Replica('p', int(sys.argv[2]), mode='stream');"
        "loop = asyncio.new_event_loop(); loop.run_until_complete(one.start());"
        "print('ready', flush=True); loop.run_forever()"
    )
    command = [sys.executable, "-c", code, str(HERE), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        process.stdout.readline()
        front = Front(tmp_path_factory.mktemp("f"), loop, {("m", "/"): [elsewhere]})
        stream = Stream(front.port)
        stream.answer.read1(65536)
        killed = time.monotonic()
        process.kill()
        stream.read()
        front.stop()
    assert stream.cut_after is not None
    assert stream.cut_after - killed < 0.5


def test_a_process_that_is_being_replaced_passes_new_requests_to_the_next(
    make_front: Callable[..., Front],
) -> None:
    """It knows the instances of the past; a stream has kept one connection of a client with it."""
    front = make_front({("m", "/"): ["a"]})
    (old,) = front.replicas
    old.mode = "stream"
    connection = http.client.HTTPConnection("127.0.0.1", front.port, timeout=20)
    connection.request("POST", "/v1/chat/completions", json.dumps(BODY).encode())
    answer = connection.getresponse()
    new = Replica("b", free_port())
    front.loop.run(new.start())
    front.apps = {("m", "/"): [new]}
    front.reload()
    assert answer.read().decode() == WHOLE
    front.loop.run(old.kill())
    connection.request("POST", "/v1/chat/completions", json.dumps(BODY).encode())
    reply = connection.getresponse()
    assert (reply.status, json.loads(reply.read())["replica"]) == (200, "b")
    wait_until(lambda: not front.api.has_alive_old_procs(), "the old process has left", 20)
