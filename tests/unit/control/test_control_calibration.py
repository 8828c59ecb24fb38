"""Calibration measures real devices, links and processes; here small ones, on the CPU."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.control.calibration.children import MeasurementFailedError, run_ranks
from rayserve_par.control.calibration.collectives import (
    CollectiveSizes,
    measure_collectives,
    rank_counts,
)
from rayserve_par.control.calibration.measure import DeviceSizes, measure_device

HERE = Path(__file__).resolve().parent
SMALL = CollectiveSizes((1024, 65536), batch_bytes=65536, limit_seconds=60)


def fail(rank: int, _folder: str) -> None:
    print("about to fail", flush=True)
    if rank == 1:
        raise ValueError(f"no such link as {os.environ['RAYSERVE_PAR_TEST_ONLY']}")


def start_a_child_and_wait(_rank: int, _folder: str, note: str) -> None:
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(note).write_text(f"{os.getpid()} {grandchild.pid}")
    time.sleep(600)


def gone(pid: int) -> bool:
    """Whether the process ended (a zombie did, too)."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return True
    return stat.rpartition(")")[2].split()[0] == "Z"


def wait_until(done: Any, seconds: float = 15.0) -> None:
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_a_device_has_bandwidth_and_flops() -> None:
    sizes = DeviceSizes(copy_bytes=2**22, matmul_size=128, calls=2)
    found = measure_device(0, "", False, sizes)
    assert found["name"] == "cpu"
    assert 1e8 < found["copy_bytes_per_second"] < 1e13
    assert [bits for bits, _ in found["matmul_flops"]] == [32, 16]
    assert all(1e6 < flops < 1e16 for _, flops in found["matmul_flops"])


@pytest.mark.parametrize(
    ("ranks", "counts"),
    [(1, ()), (2, (2,)), (3, (2, 3)), (4, (2, 4)), (6, (2, 4, 6)), (8, (2, 4, 8))],
)
def test_collectives_are_measured_on_powers_of_two_and_on_all(
    ranks: int, counts: tuple[int, ...]
) -> None:
    assert rank_counts(ranks) == counts


@pytest.mark.parametrize(("size", "calls"), [(1024, 100), (2**20, 64), (2**26, 5)])
def test_a_batch_moves_a_bounded_number_of_bytes(size: int, calls: int) -> None:
    assert CollectiveSizes((size,), batch_bytes=2**26).calls(size) == calls


def test_two_ranks_measure_every_collective() -> None:
    rows = run_ranks(
        "links",
        measure_collectives,
        2,
        (2, False, SMALL),
        limit_seconds=60,
        environment={"OMP_NUM_THREADS": "1"},
    )
    assert [(row["op"], row["ranks"], row["message_bytes"]) for row in rows] == [
        (op, 2, size)
        for op in ("all_reduce", "all_to_all", "send_recv")
        for size in SMALL.message_bytes
    ]
    assert all(1e-7 < row["seconds"] < 1 for row in rows)


def test_a_rank_that_fails_names_itself_and_shows_its_output() -> None:
    environment = {"RAYSERVE_PAR_TEST_ONLY": "this one"}
    with pytest.raises(
        MeasurementFailedError, match=r"failed on rank 1: .*no such link as this one"
    ) as found:
        run_ranks("links", fail, 2, (), limit_seconds=60, environment=environment)
    assert "about to fail" in found.value.details
    assert "RAYSERVE_PAR_TEST_ONLY" not in os.environ


def test_the_time_limit_ends_a_rank_and_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    with pytest.raises(MeasurementFailedError, match="did not end within 5 s"):
        run_ranks("x", start_a_child_and_wait, 1, (str(note),), limit_seconds=5)
    pids = [int(pid) for pid in note.read_text().split()]
    assert len(pids) == 2
    wait_until(lambda: all(map(gone, pids)))


def test_ctrl_c_ends_a_rank_and_what_it_started(tmp_path: Path) -> None:
    note = tmp_path / "pids"
    program = (
        "import signal\n"
        "from test_control_calibration import run_ranks, start_a_child_and_wait\n"
        "if __name__ == '__main__':\n"
        "    signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        f"    run_ranks('x', start_a_child_and_wait, 1, ({str(note)!r},), limit_seconds=600)\n"
    )
    script = tmp_path / "program.py"
    script.write_text(program, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(HERE)}
    # A file: where the test fails, what is left of the ranks would hold a pipe open.
    errors = tmp_path / "errors"
    with errors.open("wb") as stderr:
        # What a shell starts in its background ignores SIGINT; hence the handler.
        parent = subprocess.Popen(
            [sys.executable, str(script)], env=env, stderr=stderr, start_new_session=True
        )
    try:
        wait_until(lambda: note.is_file() and len(note.read_text().split()) == 2, seconds=180)
        pids = [int(pid) for pid in note.read_text().split()]
        os.kill(parent.pid, signal.SIGINT)
        parent.wait(timeout=30)
        assert b"KeyboardInterrupt" in errors.read_bytes()
        wait_until(lambda: all(map(gone, pids)))
    finally:
        parent.kill()
        parent.wait()
