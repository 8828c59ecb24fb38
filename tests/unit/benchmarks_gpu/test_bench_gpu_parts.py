"""Which parts there are, which run again, and what their files keep."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.__main__ import run
from benchmarks.gpu.cases import ENGINES
from benchmarks.gpu.ledger import Ledger, Record, Status
from benchmarks.gpu.machine import Machine, logical_machine, parse_gpus
from benchmarks.gpu.parts import PARTS, Part, chosen, to_run
from rayserve_par.errors import RefusedError

H200 = Machine("H200", 1, 143771, "580.1", 16, {"vllm": "0.25.0"})


def record(part: str, status: Status = Status.DONE, machine: Machine = H200) -> Record:
    return Record(part, status, machine, "2026-11-24T09:00:00+00:00", 12.5, "", {"a": [1, 2.5]})


def unrunnable(_machine: Machine, _folder: Path) -> dict[str, Any]:
    raise AssertionError("a skipped part must not be run")


def test_every_part_has_a_name_of_its_own_that_a_file_can_have() -> None:
    names = [part.name for part in PARTS]
    assert len(set(names)) == len(names)
    assert all(set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789.-") for name in names)


@pytest.mark.parametrize(
    ("only", "first", "count"),
    [
        ([], "calibrate", len(PARTS)),
        (["calibrate"], "calibrate", 1),
        (["engine"], "engine-qwen3-0.6b-tp1", len(ENGINES)),
        (["tokens-tp2", "calibrate"], "calibrate", 2),
        (["engine-qwen3-30b-a3b"], "engine-qwen3-30b-a3b-tp1", 3),
    ],
)
def test_parts_are_chosen_by_name_or_first_words(only: list[str], first: str, count: int) -> None:
    found = chosen(only)
    assert (found[0].name, len(found)) == (first, count)


def test_an_unknown_part_is_refused_with_the_known_ones() -> None:
    with pytest.raises(RefusedError, match=r"--only engines: .* Parts: calibrate, engine-"):
        chosen(["engines"])


def test_what_is_done_does_not_run_again_and_the_rest_does() -> None:
    parts = chosen(["calibrate", "tokens-tp1", "recovery-tp1", "product-tp1"])
    records = {
        "calibrate": record("calibrate"),
        "tokens-tp1": record("tokens-tp1", Status.FAILED),
        "recovery-tp1": record("recovery-tp1", Status.SKIPPED),
    }
    left = [part.name for part in to_run(parts, records)]
    assert left == ["product-tp1", "recovery-tp1", "tokens-tp1"]
    assert to_run(parts, records, again=True) == parts


def test_a_record_survives_its_file(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new")
    ledger.write(record("calibrate", Status.FAILED))
    ledger.write(record("calibrate"))
    assert ledger.records() == {"calibrate": record("calibrate")}
    assert [file.name for file in ledger.folder.iterdir()] == ["calibrate.json"]


@pytest.mark.parametrize("later", [Status.FAILED, Status.SKIPPED])
def test_a_later_try_that_finds_nothing_loses_nothing(tmp_path: Path, later: Status) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(record("calibrate"))
    ledger.write(record("calibrate", later))
    assert ledger.records() == {"calibrate": record("calibrate")}


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"status": "done"}', '{"status": "great"}'])
def test_another_json_file_in_the_folder_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "notes.json").write_text(text)
    with pytest.raises(RefusedError, match=r"notes\.json is no result of"):
        Ledger(tmp_path).records()


def test_figures_of_two_kinds_of_gpu_do_not_share_a_folder(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    ledger.write(record("calibrate"))
    ledger.check_machine(H200)
    with pytest.raises(RefusedError, match="holds results of H200"):
        ledger.check_machine(logical_machine())


def test_figures_may_follow_skipped_parts_of_a_machine_without_gpus(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    none = Machine("none", 0, 0, "", 2, {})
    ledger.write(record("calibrate", Status.SKIPPED, none))
    ledger.check_machine(H200)


@pytest.mark.parametrize(
    ("part", "machine", "reason"),
    [
        ("engine-llama-3.1-8b-instruct-tp1", H200, None),
        ("engine-llama-3.1-8b-instruct-tp2", H200, "needs 2 GPUs; this machine has 1"),
        ("engine-llama-3.3-70b-instruct-fp8-tp1", H200, None),
        ("calibrate", Machine("none", 0, 0, "", 2, {}), "needs 1 GPUs; this machine has none"),
        (
            "engine-llama-3.3-70b-instruct-fp8-tp1",
            Machine("H100", 1, 81559, "", 2, {}),
            "does not fit: weights 67",
        ),
        ("engine-llama-3.3-70b-instruct-fp8-tp2", Machine("H100", 2, 81559, "", 2, {}), None),
    ],
)
def test_a_part_runs_only_where_it_has_gpus_and_memory(
    part: str, machine: Machine, reason: str | None
) -> None:
    [found] = chosen([part])
    said = found.reason_to_skip(machine)
    assert said is None if reason is None else (said or "").startswith(reason)


def test_a_part_without_gpus_is_written_down_as_skipped(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    part = Part("many", "needs what is not here", 9, unrunnable)
    assert run((part,), ledger, H200, again=False)
    found = ledger.records()["many"]
    assert (found.status, found.reason) == (Status.SKIPPED, "needs 9 GPUs; this machine has 1")


def test_a_part_whose_process_fails_is_written_down_as_failed(tmp_path: Path) -> None:
    # No such part is known to the process that should run it.
    part = Part("unheard-of", "fails", 1, unrunnable)
    ledger = Ledger(tmp_path)
    assert not run((part,), ledger, logical_machine(), again=False)
    found = ledger.records()["unheard-of"]
    assert found.status is Status.FAILED
    assert "ended with code 1" in found.reason


def test_the_driver_s_table_is_read() -> None:
    text = "NVIDIA H200, 143771, 580.159.04\nNVIDIA H200, 143771, 580.159.04\n"
    assert parse_gpus(text) == [("NVIDIA H200", 143771, "580.159.04")] * 2
    assert parse_gpus("") == []


def test_the_command_lists_its_parts_without_starting_anything(tmp_path: Path) -> None:
    words = ["--list", "--only", "calibrate", "--out", str(tmp_path / "none")]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.gpu", *words],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.startswith("calibrate")
    assert not (tmp_path / "none").exists()


def test_files_are_json_that_others_can_read(tmp_path: Path) -> None:
    Ledger(tmp_path).write(record("calibrate"))
    found = json.loads((tmp_path / "calibrate.json").read_text())
    assert found["status"] == "done"
    assert found["machine"]["software"] == {"vllm": "0.25.0"}
