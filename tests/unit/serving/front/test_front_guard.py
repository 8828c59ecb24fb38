"""A dead HAProxy is stood in for at once; one that was replaced or stopped is not."""

from __future__ import annotations

import contextlib
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from front_harness import backend, launcher_script, serve_api
from front_replica import Loop, Replica, free_port

from rayserve_par.serving.front import guard
from rayserve_par.serving.front.guard import with_takeover

MANAGER = Path(__file__).with_name("front_manager.py")


@dataclass
class Managed:
    """A manager process, the port that its HAProxy answers on, and their folder."""

    folder: Path
    port: int
    process: subprocess.Popen[str]

    def told(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, word: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{word}\n")
        self.process.stdin.flush()
        return self.told()

    def answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        try:
            connection.request("GET", "/v1/models")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    @property
    def manager(self) -> int:
        """The manager's process where it runs under another."""
        return psutil.Process(self.process.pid).children()[0].pid

    @property
    def stand_in(self) -> psutil.Process | None:
        try:
            pid = int((self.folder / "stand_in.pid").read_text("utf-8"))
            found = psutil.Process(pid)
        except (FileNotFoundError, ValueError, psutil.NoSuchProcess):
            return None
        return found if found.status() != psutil.STATUS_ZOMBIE else None


def until(met: Callable[[], object], seconds: float = 10.0) -> float:
    """How long it took; fails after `seconds`."""
    started = time.monotonic()
    while not met():
        assert time.monotonic() - started < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - started


def _zombie(pid: int) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    return True


def _names(process: psutil.Process, folder: Path) -> bool:
    try:
        dead = process.status() == psutil.STATUS_ZOMBIE
        return not dead and str(folder) in " ".join(process.cmdline())
    except psutil.NoSuchProcess:
        return False


@contextmanager
def next_manager_s_haproxy(one: Managed) -> Iterator[None]:
    words = [str(one.folder / "rayserve-par-haproxy"), "-db", "-f", str(one.folder / "haproxy.cfg")]
    with subprocess.Popen(words) as new:
        try:
            yield
        finally:
            new.kill()


def knows_no_application(one: Managed) -> None:
    """Write what a manager writes before Serve's controller has told it anything."""
    api = serve_api(one.folder, [])
    api.cfg.http_options.port = one.port
    api._generate_config_file_internal()


@contextmanager
def managed(folder: Path, loop: Loop, *, under: str | None = None) -> Iterator[Managed]:
    """A manager, whose raylet is this process, or a shell `under` which it runs."""
    replica = Replica("a", free_port())
    loop.run(replica.start())
    api = serve_api(folder, [backend("m", "/", [replica])])
    api._generate_config_file_internal()
    script = launcher_script(folder, {"RAYSERVE_PAR_FRONT_STAND_IN": "1"})
    words = [sys.executable, str(MANAGER), str(script), str(folder / "haproxy.cfg")]
    # A shell that has more to do does not become its command.
    raylet = [under, "-c", '"$@"; true', "raylet"] if under else []
    process = subprocess.Popen(
        [*raylet, *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    one = Managed(folder, api.cfg.frontend_port, process)
    try:
        yield one
    finally:
        process.kill()
        process.wait()
        while left := [one for one in psutil.process_iter() if _names(one, folder)]:
            for each in left:
                each.kill()
            psutil.wait_procs(left, timeout=5)
        loop.run(replica.kill())


@pytest.fixture
def running(tmp_path: Path, loop: Loop) -> Iterator[tuple[Managed, int]]:
    with managed(tmp_path, loop) as one:
        pid = int(one.told())
        until(one.answers, 20)
        yield one, pid


def test_a_killed_haproxy_is_stood_in_for(running: tuple[Managed, int]) -> None:
    one, pid = running
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in)
    assert until(one.answers) < 3
    assert one.stand_in is not None
    assert one.stand_in.pid != pid


def test_a_killed_stand_in_is_replaced(running: tuple[Managed, int]) -> None:
    one, pid = running
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in)
    until(one.answers)
    time.sleep(1.1)  # one that ends sooner counts as unable to serve
    first = one.stand_in
    assert first is not None
    first.kill()
    until(lambda: one.stand_in not in (None, first))
    until(one.answers)


def test_the_next_haproxy_takes_over_from_a_stand_in(running: tuple[Managed, int]) -> None:
    one, pid = running
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in)
    until(one.answers)
    new = int(one.tell("reload"))
    until(lambda: one.stand_in is None)
    assert one.answers()
    assert psutil.Process(new).is_running()


def test_a_reload_needs_no_stand_in(running: tuple[Managed, int]) -> None:
    one, pid = running
    one.tell("reload")
    until(lambda: psutil.Process(pid).status() == psutil.STATUS_ZOMBIE)
    time.sleep(0.5)
    assert one.stand_in is None
    assert one.answers()


def test_nothing_is_left_of_a_manager_that_was_shut_down(running: tuple[Managed, int]) -> None:
    one, _ = running
    assert one.tell("stop") == "stopped"
    one.process.kill()
    one.process.wait()
    # The guard is the last to go: until then it may still start a stand-in, and end it.
    until(lambda: not any(_names(process, one.folder) for process in psutil.process_iter()))
    assert not one.answers()


@pytest.mark.parametrize(
    ("manager_seen_seconds", "serves_on_seconds"),
    [
        pytest.param(0.0, 0.0, id="shutdown, or a guard that slept meanwhile"),
        pytest.param(1.9, 0.0, id="a slow shutdown"),
        pytest.param(6.0, 30.0, id="replaced by Serve"),
    ],
)
def test_a_stand_in_outlives_only_a_manager_that_was_seen_after_a_shutdown_s_time(
    manager_seen_seconds: float, serves_on_seconds: float
) -> None:
    end = guard._end_without_manager(100.0, manager_seen_seconds=manager_seen_seconds)
    assert end - 100.0 == serves_on_seconds


def test_the_next_manager_takes_over_from_a_stand_in(running: tuple[Managed, int]) -> None:
    """Serve replaces a manager whose HAProxy does not answer on the admin socket."""
    one, pid = running
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in)
    until(one.answers)
    with socket.socket(socket.AF_UNIX) as admin, pytest.raises(OSError, match="refused"):
        admin.connect(str(one.folder / "admin.sock"))
    time.sleep(2.5)  # sooner, and it would be a shutdown
    one.process.kill()
    one.process.wait()
    time.sleep(0.6)
    assert one.answers()
    with next_manager_s_haproxy(one):
        until(lambda: one.stand_in is None)
        assert one.answers()


def test_a_manager_that_knows_no_application_yet_serves_the_last_known(
    running: tuple[Managed, int],
) -> None:
    """Serve's manager launches its HAProxy before it is told what runs."""
    one, pid = running
    one.process.kill()
    one.process.wait()
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in)
    until(one.answers)
    knows_no_application(one)
    with next_manager_s_haproxy(one):
        until(lambda: one.stand_in is None)
        assert one.answers()


def test_without_a_stand_in_no_application_is_no_application(
    running: tuple[Managed, int],
) -> None:
    one, _ = running
    knows_no_application(one)
    one.tell("reload")
    until(lambda: not one.answers())


def kill_manager(one: Managed) -> None:
    """As Ray does it: with its whole process group."""
    os.killpg(one.process.pid, signal.SIGKILL)
    one.process.wait()


def test_a_killed_manager_s_haproxy_serves_until_the_next_takes_over(
    running: tuple[Managed, int],
) -> None:
    one, pid = running
    kill_manager(one)
    until(lambda: one.stand_in)
    assert one.stand_in is not None
    assert one.stand_in.pid == pid
    assert one.answers()
    knows_no_application(one)
    with next_manager_s_haproxy(one):
        until(lambda: one.stand_in is None)
        assert one.answers()


def test_a_killed_manager_s_haproxy_is_stood_in_for(running: tuple[Managed, int]) -> None:
    one, pid = running
    kill_manager(one)
    os.kill(pid, signal.SIGKILL)
    until(lambda: one.stand_in and one.stand_in.pid != pid)
    until(one.answers)


def test_no_haproxy_outlives_the_raylet(tmp_path: Path, loop: Loop) -> None:
    with managed(tmp_path, loop, under="/bin/sh") as one:
        pid = int(one.told())
        until(one.answers, 20)
        manager = one.manager
        one.process.kill()
        one.process.wait()
        os.kill(manager, signal.SIGKILL)
        until(lambda: not psutil.pid_exists(pid) or _zombie(pid))
        time.sleep(0.5)
        assert not one.answers()


def test_a_haproxy_that_no_manager_comes_for_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guard, "_BRIDGE_SECONDS", 0.5)
    haproxy, manager = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    watched = guard.Watched(haproxy.pid, manager.pid, os.getpid(), ("no-such-command",), tmp_path)
    watched.last_file.write_text(str(haproxy.pid), "utf-8")
    manager.kill()
    started = time.monotonic()
    guard.guard(watched)
    assert time.monotonic() - started >= 0.5
    assert haproxy.wait(5) == -signal.SIGKILL


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (["-f", "c"], ["-f", "c", "-sf", "{pid}"]),
        (
            ["-f", "c", "-sf", "7", "8", "-x", "s"],
            ["-f", "c", "-sf", "{pid}", "7", "8", "-x", "s"],
        ),
    ],
)
def test_a_living_stand_in_is_taken_over_from(
    tmp_path: Path, given: list[str], expected: list[str]
) -> None:
    (tmp_path / "stand_in.pid").write_text(str(os.getpid()), "utf-8")
    found = with_takeover(given, tmp_path)
    assert found == [word.format(pid=os.getpid()) for word in expected]


@pytest.mark.parametrize("text", [None, "", "no number", str(2**22 + 1)])
def test_without_a_stand_in_the_command_stays(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "stand_in.pid").write_text(text, "utf-8")
    assert with_takeover(["-f", "c"], tmp_path) == ["-f", "c"]
