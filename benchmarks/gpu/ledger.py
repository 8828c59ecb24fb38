"""One JSON file for each part that was run: what makes a run resumable.

A part that is `done` is not run again; one that failed or was skipped is, since a GPU may have
been added or a bug mended. A folder holds the parts of one kind and number of GPUs.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from benchmarks.gpu.machine import Machine, machine_of
from rayserve_par.errors import RefusedError


class Status(StrEnum):
    """How a part ended."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Record:
    """What one part found, or why it found nothing; `seconds` is how long it took."""

    part: str
    status: Status
    machine: Machine
    measured_at: str
    seconds: float = 0.0
    reason: str = ""
    result: Mapping[str, Any] = field(default_factory=dict)


def record_to_json(record: Record) -> str:
    """The record as a file holds it."""
    return json.dumps(asdict(record), indent=1) + "\n"


def record_from_json(text: str, where: str) -> Record:
    """The record that `record_to_json` wrote.

    Raises:
        RefusedError: it is another text; `where` is named.
    """
    try:
        fields = json.loads(text)
        status, machine = Status(fields.pop("status")), machine_of(fields.pop("machine"))
        return Record(status=status, machine=machine, **fields)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RefusedError(
            f"{where} is no result of `python -m benchmarks.gpu`: {error}. Move it away, or give "
            "another folder with --out."
        ) from error


class Ledger:
    """The results in one folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def records(self) -> dict[str, Record]:
        """Every part's record, by part."""
        files = sorted(self.folder.glob("*.json"))
        found = [record_from_json(f.read_text(encoding="utf-8"), str(f)) for f in files]
        return {record.part: record for record in found}

    def write(self, record: Record) -> None:
        """Keep a record in the place of an earlier one of its part; whole or not at all.

        What was found is kept where a later try finds nothing.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        file = self.folder / f"{record.part}.json"
        if record.status is not Status.DONE and file.is_file():
            before = record_from_json(file.read_text(encoding="utf-8"), str(file))
            if before.status is Status.DONE:
                return
        beside = file.with_suffix(".new")
        beside.write_text(record_to_json(record), encoding="utf-8")
        beside.replace(file)

    def check_machine(self, machine: Machine) -> None:
        """Refuse to put figures of two kinds of GPU into one folder.

        Raises:
            RefusedError: a part that is done there was measured on another kind.
        """
        for record in self.records().values():
            if record.status is Status.DONE and record.machine.gpu != machine.gpu:
                raise RefusedError(
                    f"{self.folder} holds results of {record.machine.gpu} ({record.part}), and "
                    f"this machine has {machine.gpu}. Give another folder with --out."
                )
