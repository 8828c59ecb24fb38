"""Tables and plots from what one H200 measured (docs/data/h200), and the pages that show them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

from benchmarks.gpu.ledger import Ledger, Record, Status
from benchmarks.gpu.prediction import (
    PREFILL,
    TPOT,
    Compared,
    EngineResult,
    Memory,
    mean_errors,
    unseen,
)
from benchmarks.gpu.report import (
    BEGIN,
    END,
    accuracy_text,
    engine_results,
    main,
    profile_of,
    report_text,
)
from benchmarks.gpu.tables import error_table, memory_table, product_table, times_table
from rayserve_par.errors import RefusedError
from rayserve_par.hardware.profile_json import profile_from_json
from rayserve_par.planning import Layout

ROOT = Path(__file__).resolve().parents[3]
DATA = ROOT / "docs/data/h200"


def records() -> dict[str, Record]:
    return Ledger(DATA).records()


def result(in_profile: bool = False, after: float | None = 1.1) -> EngineResult:
    times = (
        Compared(PREFILL, 1024, 0.050, 0.040, 0.045),
        Compared(TPOT, 1, 1.0, 0.8, after),
        Compared(TPOT, 8, 2.0, 2.2, after and 2.0),
    )
    memory, predicted = Memory(2**30, 1000), Memory(2**30, 900)
    return EngineResult("org/Model", Layout(tp=2), times, in_profile, memory, predicted, 61.2)


def test_errors_are_means_of_absolute_ones() -> None:
    assert mean_errors([result()], TPOT) == (2, pytest.approx(0.15), pytest.approx(0.05))
    assert mean_errors([result(after=None)], TPOT) == (2, pytest.approx(0.15), None)
    with pytest.raises(ValueError, match="no prefill"):
        mean_errors([replace(result(), times=())], PREFILL)


def test_what_the_profile_has_seen_is_counted_apart() -> None:
    other = replace(result(), model="org/Other")
    # The same engine measured once more is no news to the profile.
    found = [other, result(), result(in_profile=True)]
    assert unseen(found) == [other]
    text = error_table(found)
    assert "all that the profile has not seen" in text
    assert text.splitlines()[-1].split(" | ")[1] == "2"
    assert "not seen" not in error_table([result()])


def test_a_table_shows_measured_predicted_and_the_error() -> None:
    assert memory_table([result()]).splitlines()[-1] == (
        "| Model TP2 | 1.000 | 1.000 | 0.0% | 1,000 | 900 | -10.0% | 61 |"
    )
    assert times_table([result()]).splitlines()[-1] == (
        "| Model TP2 | 50.00 / 40.00 / 45.00 | 1000.00 / 800.00 / 1100.00 "
        "| 2000.00 / 2200.00 / 2000.00 |"
    )


def test_the_table_of_starts_tells_ranks_apart() -> None:
    record = records()["product-tp1"]
    places = [
        {"instance": 0, "dp_rank": 0, "rank": 0, "bundle": 0, "gpu": 0},
        {"instance": 0, "dp_rank": 1, "rank": 0, "bundle": 1, "gpu": 1},
        {"instance": 1, "dp_rank": 0, "rank": 1, "bundle": 0, "gpu": 3},
    ]
    engines = [{"process": "ray::DpRankActor.run", "cuda_visible_devices": None}]
    row = product_table(
        [replace(record, result={**record.result, "ranks": places, "engines": engines})]
    ).splitlines()[-1]
    told = "| rank 0: GPU 0, DP rank 1, rank 0: GPU 1, instance 1, rank 1: GPU 3 | - | 0 | yes |"
    assert row.endswith(told)


def test_the_recorded_engines_are_predicted() -> None:
    found = engine_results(records())
    assert [one.label for one in found if one.in_profile] == ["Llama-3.1-8B-Instruct TP1"]
    assert len(unseen(found)) == 3
    for one in unseen(found):
        assert one.memory is not None
        assert one.predicted_memory is not None
        assert one.predicted_memory.weight_bytes == pytest.approx(one.memory.weight_bytes, rel=1e-3)
        assert one.predicted_memory.kv_tokens == pytest.approx(one.memory.kv_tokens, rel=0.01)
        assert {time.size for time in one.times if time.what == TPOT} == {1, 8, 32, 128}


def test_every_recorded_part_ended_well() -> None:
    assert {record.status for record in records().values()} == {Status.DONE}
    memory = records()["recovery-tp1"].result["memory"]
    assert memory["freed_before_next"]
    tokens = records()["tokens-tp1"].result
    assert tokens["ours"] == tokens["bare"]


def test_the_shipped_profile_is_the_recorded_one() -> None:
    text = (ROOT / "configs/profiles/h200-vllm-0.25.json").read_text(encoding="utf-8")
    assert profile_from_json(text) == profile_of(records())


def test_a_part_that_was_not_run_says_why() -> None:
    text = report_text(records(), "data/h200")
    assert "| `tokens-tp2` | needs 2 GPUs; this machine has 1 | - |" in text
    assert "| `calibrate` | done |" in text


def test_the_report_needs_no_part_but_one() -> None:
    only = {"tokens-tp1": records()["tokens-tp1"]}
    text = report_text(only, "data/h200")
    assert "256 | 256" in text
    assert "Engines against the plan" not in text


@pytest.mark.parametrize("page", ["docs/h200.md", "docs/accuracy.md"])
def test_the_pages_show_what_the_files_hold(page: str) -> None:
    shown = (ROOT / page).read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    text = accuracy_text(records()) if "accuracy" in page else report_text(records(), "data/h200")
    assert shown.strip() == text


def test_the_command_writes_plots_and_both_pages(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "data" / "h200")
    for record in records().values():
        ledger.write(record)
    pages = [tmp_path / "a.md", tmp_path / "b.md"]
    for page in pages:
        page.write_text(f"before\n{BEGIN}\nold\n{END}\nafter\n", encoding="utf-8")
    words = ["--results", str(ledger.folder), "--docs", str(pages[0]), "--accuracy", str(pages[1])]
    main(words)
    report, accuracy = (page.read_text(encoding="utf-8") for page in pages)
    assert report_text(records(), "data/h200") in report
    assert "old" not in accuracy
    for chart in ("tpot.svg", "recovery.svg"):
        tree = ElementTree.parse(ledger.folder / chart)
        assert len(tree.findall(".//{http://www.w3.org/2000/svg}polyline")) >= 1


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="holds no results"):
        main(["--results", str(tmp_path)])
