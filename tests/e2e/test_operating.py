"""What operators type, against a real cluster: `top`, `events`, `control`, `status`."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from rayserve_par.control.live.records import NO_OVERRIDE
from rayserve_par.control.live.store import forget, read_override, write_events, write_status
from tests.e2e.conftest import APP, Deployer
from tests.e2e.waiting import wait_until
from tests.unit.control.live.operated import control_status, event, instance, log

pytestmark = pytest.mark.engine

COMMAND = [sys.executable, "-m", "rayserve_par.cli.main"]
MOCK = {"model": "tiny-llama", "layout": {"tp": 1}, "num_replicas": 2, "mock_engine": {}}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], capture_output=True, text=True, timeout=120, check=False
    )


def keys_until_end(command: list[str], expected: str, keys: str) -> tuple[int, str]:
    """Run in a terminal; press `keys` once `expected` is on the screen. Exit code and output."""
    process, terminal = pty.fork()
    if process == 0:
        os.environ.update(COLUMNS="100", LINES="40", TERM="xterm")
        os.execv(command[0], command)
    drawn, pressed, end = "", False, time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            try:
                drawn += os.read(terminal, 65536).decode(errors="replace")
            except OSError:  # the other side has closed
                break
        if not pressed and expected in drawn:
            os.write(terminal, keys.encode())
            pressed = True
    _, status = os.waitpid(process, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), drawn


def test_operators_see_and_steer(deployer: Deployer) -> None:
    deployer.deploy(MOCK)
    [without] = json.loads(run("status", "--json").stdout)["applications"]
    assert without["control"] is None
    shown = run("top", "--once", "--width", "80")
    assert shown.returncode == 0, shown.stderr
    assert f"{APP}  RUNNING  no controller has reported" in shown.stdout
    assert "2 running" in shown.stdout

    names = [view.record.replica_id for view in deployer.observe().instances]
    reports = tuple(replace(instance(0), name=name) for name in names)
    write_status(control_status(APP, seconds=time.time(), instances=reports))
    write_events(APP, log(event(13, seconds=time.time() - 60), event(14, seconds=time.time())))
    try:
        _see_and_steer()
    finally:
        forget(APP)


def _see_and_steer() -> None:
    shown = run("top", "--once", "--width", "80").stdout
    assert f"{APP}  RUNNING  acting  tp2" in shown
    assert "412 ms of 2 s ok" in shown
    assert f"{APP}#1" in shown
    assert max(len(line) for line in shown.splitlines()) <= 80

    looked = json.loads(run("top", "--json").stdout)
    assert [one["number"] for one in looked["events"][APP]] == [13, 14]
    assert looked["applications"][0]["control"]["status"]["wanted"] == 3

    listed = run("events", APP, "--last", "1").stdout
    assert listed.startswith("#14 ")
    assert "#13 " not in listed
    assert "decided" in run("events", "--number", "13").stdout
    lines = run("events", "--json").stdout.splitlines()
    assert [json.loads(line)["number"] for line in lines] == [13, 14]

    unknown = run("control", "pause", "nobody")
    assert (unknown.returncode, APP in unknown.stderr) == (2, True)
    above = run("control", "set", APP, "9")
    assert above.returncode == 2
    assert "above the most, 8" in " ".join(above.stderr.split())
    assert read_override(APP) == NO_OVERRIDE

    paused = run("control", "pause", APP, "--for", "30m", "--note", "upgrade")
    assert paused.returncode == 0, paused.stderr
    override = read_override(APP)
    assert (override.paused, override.note) == (True, "upgrade")
    assert override.until_seconds == pytest.approx(time.time() + 1800, abs=60)
    assert "upgrade" in run("control", "show", APP).stdout
    assert run("control", "set", APP, "4", "--for", "1h").returncode == 0
    assert read_override(APP).instances == 4
    assert run("control", "resume", APP).returncode == 0
    assert read_override(APP) == NO_OVERRIDE

    watch = [*COMMAND, "top", "--interval", "0.5"]
    for keys in ("q", "\x03"):
        code, drawn = keys_until_end(watch, "412 ms of 2 s ok", keys)
        assert code == 0, drawn[-500:]
        # The screen from before is shown again at the end.
        assert drawn.rindex("\x1b[?1049l") > drawn.rindex("\x1b[?1049h")


def test_another_number_alone_restarts_no_instance(deployer: Deployer, tmp_path: Path) -> None:
    deployer.deploy(MOCK)

    def living() -> set[str]:
        return {view.record.replica_id for view in deployer.observe().instances}

    def redeploy(instances: int) -> str:
        config = tmp_path / "config.yaml"
        document = deployer.document({**MOCK, "num_replicas": instances})
        config.write_text(yaml.safe_dump(document), "utf-8")
        done = run("deploy", str(config))
        assert done.returncode == 0, done.stderr
        wait_until(lambda: len(living()) == instances, 120)
        return done.stdout

    two = living()
    assert "3 instances instead of 2; none is restarted." in redeploy(3)
    three = living()
    assert two < three
    assert "none is restarted" not in redeploy(3)
    assert living() == three
    assert "2 instances instead of 3; none is restarted." in redeploy(2)
    assert living() < three


def test_top_of_nothing_is_refused() -> None:
    done = run("top", "--once", "--address", "127.0.0.1:1")
    assert done.returncode == 2
    assert "Nothing answers at 127.0.0.1:1" in done.stderr
