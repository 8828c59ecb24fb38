"""The accuracy that docs/accuracy.md states, computed anew from the evidence."""

import json
import re
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest

REPOSITORY = Path(__file__).resolve().parents[4]
EVIDENCE = REPOSITORY.parent / "shared" / "evidence"
CONFIGS = REPOSITORY.parent / "shared" / "model_configs"
PAGE = REPOSITORY / "docs" / "accuracy.md"

pytestmark = pytest.mark.skipif(
    not (EVIDENCE / "measured_latency.jsonl").is_file() or not CONFIGS.is_dir(),
    reason=f"no measurements to compare with: {EVIDENCE} or {CONFIGS} is not there",
)


@cache
def cross_validated() -> dict[str, Any]:
    from scripts import fit_performance as fitting

    rows = fitting.read_rows(EVIDENCE, CONFIGS)
    return fitting.summary(*fitting.cross_validate(rows), rows)


def test_the_error_bar_of_plans_is_the_cross_validated_error() -> None:
    text = files("rayserve_par.planning.performance").joinpath("constants.json").read_text("utf-8")
    stated, found = json.loads(text)["cross_validated_median_error"], cross_validated()["served"]
    assert stated["tpot"] == pytest.approx(found["tpot_median"], abs=0.005)
    assert stated["ttft"] == pytest.approx(found["ttft_median"], abs=0.01)


def test_the_page_states_what_is_computed() -> None:
    figures = cross_validated()["families"]
    line = re.compile(r"\| (\S+) \| \d+ \| ([\d.]+)% \| ([\d.]+)% \| ([\d.]+)% \|")
    rows = {
        m[1].lower(): tuple(map(float, m.groups()[1:])) for m in line.finditer(PAGE.read_text())
    }
    assert len(rows) == 5
    for family, (median, p90, ttft) in rows.items():
        found = figures[family]
        assert 100 * found["tpot_median"] == pytest.approx(median, abs=0.5)
        assert 100 * found["tpot_p90"] == pytest.approx(p90, abs=1)
        assert 100 * found["ttft_median"] == pytest.approx(ttft, abs=1)


def test_bare_engines_of_dense_and_evenly_routed_models_are_within_a_tenth() -> None:
    from rayserve_par.cli.evaluation.config_folder import ConfigFolder
    from rayserve_par.hardware import gpu_by_name
    from rayserve_par.planning.layout import Layout
    from rayserve_par.planning.performance import decode_seconds

    folder = ConfigFolder(CONFIGS)
    rows = [json.loads(line) for line in (EVIDENCE / "h200_engine.jsonl").read_text().splitlines()]
    checked = [row for row in rows if "V2-Lite" not in row["model"]]
    assert checked
    for row in checked:
        for batch, seconds in row["tpot_s_by_batch_at_1024_prompt"].items():
            predicted = decode_seconds(
                folder.spec(row["model"], row["precision"]),
                gpu_by_name(row["gpu"]),
                Layout(tp=row["tp"]),
                batch=int(batch),
                context_tokens=1056,
            )
            assert predicted == pytest.approx(seconds, rel=0.1), (row["name"], batch)
