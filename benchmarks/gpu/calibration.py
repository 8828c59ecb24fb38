"""The part `calibrate`: the command that a user would run, and the profile that it writes."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from benchmarks.gpu.machine import Machine


def calibrate(_machine: Machine, _folder: Path) -> dict[str, Any]:
    """Run `rayserve-par calibrate`.

    Raises:
        RuntimeError: it failed; the message has the end of its output.
    """
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder:
        out = Path(folder, "profile.json")
        words = ["calibrate", "--out", str(out)]
        done = subprocess.run(
            [sys.executable, "-m", "rayserve_par.cli.main", *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        print(done.stdout, flush=True)
        if done.returncode != 0:
            raise RuntimeError(f"rayserve-par calibrate failed:\n{done.stdout[-3000:]}")
        command = "rayserve-par calibrate --out profile.json"
        return {"command": command, "profile": json.loads(out.read_text(encoding="utf-8"))}
