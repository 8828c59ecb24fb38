"""The product on this machine's GPUs, in resumable parts.

Run: python -m benchmarks.gpu --out build/gpu [--only PART ...] [--list] [--again]

Each part runs in a process of its own for 10 minutes at most and leaves PART.json in the folder; a
part that is done is not run again. A part that needs more GPUs than there are is written down as
skipped, with the reason. With --logical-gpus every part is tried with tiny models on the CPU, of
which no figure means anything. Exits with 1 if a part failed.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType

from benchmarks.gpu.ledger import Ledger, Record, Status
from benchmarks.gpu.machine import Machine, logical_machine, this_machine
from benchmarks.gpu.parts import LIMIT_SECONDS, PARTS, Part, chosen, to_run
from rayserve_par.errors import RefusedError

# A part that is told to end stops its cluster and its engines in that time.
_GRACE_SECONDS = 30.0
_INTERRUPTED = 130


def run(parts: tuple[Part, ...], ledger: Ledger, machine: Machine, *, again: bool) -> bool:
    """Run what is not done yet; whether nothing failed."""
    ledger.check_machine(machine)
    done = set(ledger.records()) - {part.name for part in to_run(parts, ledger.records())}
    for part in parts:
        if part.name in done and not again:
            print(f"{part.name}: done before", flush=True)
    good = True
    for part in to_run(parts, ledger.records(), again=again):
        record = _run_part(part, ledger, machine)
        print(f"{part.name}: {record.status} {record.seconds:.0f} s {record.reason}", flush=True)
        good = good and record.status is not Status.FAILED
    return good


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _run_part(part: Part, ledger: Ledger, machine: Machine) -> Record:
    """Run one part in a process of its own, which writes the record if it gets so far."""
    reason = part.reason_to_skip(machine)
    record = Record(part.name, Status.SKIPPED, machine, _now(), reason=reason or "")
    if reason is None:
        print(f"{part.name}: {part.title}", flush=True)
        started = time.monotonic()
        why = _in_a_process(part, ledger, machine)
        if why is None:
            record = replace(ledger.records()[part.name], seconds=time.monotonic() - started)
        else:
            seconds = time.monotonic() - started
            record = replace(record, status=Status.FAILED, reason=why, seconds=seconds)
    ledger.write(record)
    return record


def _in_a_process(part: Part, ledger: Ledger, machine: Machine) -> str | None:
    """Why the part's process failed; None where it did not."""
    words = ["--out", str(ledger.folder), "--inside", part.name]
    words += ["--logical-gpus"] if machine.is_logical else []
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.gpu", *words], start_new_session=True
    )
    try:
        code = process.wait(LIMIT_SECONDS)
    except subprocess.TimeoutExpired:
        return f"did not end within {LIMIT_SECONDS:.0f} s"
    finally:
        _end(process)
    return None if code == 0 else f"its process ended with code {code}; see its output"


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the part's process, which cleans up, and then what is left of its group."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _inside(name: str, ledger: Ledger, machine: Machine) -> None:
    """What a part's process does."""
    [part] = [part for part in PARTS if part.name == name]
    began = _now()
    result = part.run(machine, ledger.folder)
    ledger.write(Record(part.name, Status.DONE, machine, began, result=result))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("build/gpu"), help="folder of results")
    parser.add_argument("--only", nargs="*", default=[], help="parts, or their first words")
    parser.add_argument("--list", action="store_true", help="print the parts and their state")
    parser.add_argument("--again", action="store_true", help="run parts that are done as well")
    parser.add_argument("--logical-gpus", action="store_true", help="try the parts on the CPU")
    parser.add_argument("--inside", help=argparse.SUPPRESS)
    args = parser.parse_args()
    # Python leaves SIGINT ignored where a shell started it in the background.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    ledger = Ledger(args.out)
    try:
        machine = logical_machine() if args.logical_gpus else this_machine()
        if args.inside:
            _inside(args.inside, ledger, machine)
            return
        parts = chosen(args.only)
        if args.list:
            _list(parts, ledger, machine)
            return
        good = run(parts, ledger, machine, again=args.again)
    except RefusedError as refusal:
        sys.exit(f"Refused: {refusal}")
    except KeyboardInterrupt:
        print("Stopped; what is done stays done.", flush=True)
        sys.exit(_INTERRUPTED)
    sys.exit(0 if good else 1)


def _list(parts: tuple[Part, ...], ledger: Ledger, machine: Machine) -> None:
    records = ledger.records()
    for part in parts:
        record = records.get(part.name)
        reason = part.reason_to_skip(machine)
        state = record.status if record else f"would be skipped: {reason}" if reason else "to run"
        print(f"{part.name:32} {part.title}: {state}")


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
