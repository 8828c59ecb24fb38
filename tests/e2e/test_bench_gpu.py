"""A part of `make bench-gpu`: on this machine's GPU where there is one, and on logical GPUs."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.gpu.ledger import Ledger, Status

pytestmark = pytest.mark.engine

PART = "tokens-tp1"
PART_SECONDS = 660.0


def run(folder: Path, *more: str) -> str:
    words = ["--only", PART, "--out", str(folder), *more]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        check=False,
        capture_output=True,
        text=True,
        timeout=PART_SECONDS,
    )
    assert done.returncode == 0, f"{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    return done.stdout


def same_tokens(folder: Path) -> None:
    record = Ledger(folder).records()[PART]
    assert record.status is Status.DONE
    assert record.result["equal"] == record.result["tokens"] == 256


def test_on_logical_gpus_and_once_only(tmp_path: Path) -> None:
    assert f"{PART}: done" in run(tmp_path, "--logical-gpus")
    same_tokens(tmp_path)
    assert f"{PART}: done before" in run(tmp_path, "--logical-gpus")


@pytest.mark.skipif(shutil.which("nvidia-smi") is None, reason="this machine has no NVIDIA GPU")
def test_on_a_gpu(tmp_path: Path) -> None:
    run(tmp_path)
    same_tokens(tmp_path)
