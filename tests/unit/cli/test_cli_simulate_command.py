"""`rayserve-par simulate`, as typed: results in JSON and HTML, and what is refused."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.cli.simulate_inputs import instances_range, parse_failure
from rayserve_par.control.simulate.scenario import Failure
from rayserve_par.errors import RefusedError

MODEL = ["--model", "meta-llama/Llama-3.1-8B-Instruct", "--cluster", "8xH100"]
HEADER = "TIMESTAMP,ContextTokens,GeneratedTokens\n"
FIGURES = {
    "requests",
    "slo_attainment",
    *(f"{kind}_s_{percent}" for kind in ("ttft", "tpot") for percent in ("p50", "p95", "p99")),
    "gpu_hours",
    "oracle_gpu_hours",
    "scale_events",
}


def trace(folder: Path, text: str | None = None) -> Path:
    path = folder / "trace.csv"
    lines = [f"{n / 20},{500 + n % 7 * 300},{5 + n % 11 * 4}" for n in range(2400)]
    path.write_text(text if text is not None else HEADER + "\n".join(lines), encoding="utf-8")
    return path


def test_json_and_html(tmp_path: Path) -> None:
    found, page = tmp_path / "found.json", tmp_path / "found.html"
    asked = ["simulate", "--trace", str(trace(tmp_path)), *MODEL, "--start-seconds", "20"]
    asked += ["--baseline", "average_rate=60", "--baseline", "static=2", "--scale", "1.5"]
    result = CliRunner().invoke(app, [*asked, "--json", str(found), "--html", str(page)])
    assert result.exit_code == 0, result.output
    shown = json.loads(found.read_text(encoding="utf-8"))
    assert shown.keys() >= FIGURES
    assert set(shown["baselines"]) == {"average_rate=60", "static=2"}
    assert all(one.keys() >= FIGURES for one in shown["baselines"].values())
    assert shown["requests"] == pytest.approx(3600, rel=0.05)
    assert shown["slo_attainment"] > 0.99
    assert shown["oracle_gpu_hours"] <= shown["gpu_hours"]
    html = page.read_text(encoding="utf-8")
    assert html.count("<svg") == 2
    assert "unannounced" in html


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--trace", "nowhere.csv"], "cannot be read: No such file"),
        (["--trace", "step", "--tpot", "1ms"], "no layout holds"),
        (["--trace", "step", "--min", "5", "--max", "2"], "min 5 and max 2"),
        (["--trace", "step", "--baseline", "magic"], "--baseline magic: not known"),
        (["--trace", "step", "--policy", "average_rate"], "give its setting"),
        (["--trace", "step", "--fail", "sometimes"], "write die@SECONDS"),
        (["--trace", "step", "--instances", "9..2"], "LOW..HIGH"),
        (["--trace", "step", "--instances", "2", "--scale", "2"], "give one of them"),
        (["--trace", "step", "--slower", "0"], "from 0.1 to 10"),
    ],
)
def test_refusals(more: list[str], said: str) -> None:
    result = CliRunner().invoke(app, ["simulate", *MODEL, "--duration", "60", *more])
    assert isinstance(result.exception, RefusedError)
    assert said in str(result.exception)


def test_a_bad_trace_names_the_line(tmp_path: Path) -> None:
    path = trace(tmp_path, HEADER + "1,2,3\n2,x,3\n")
    result = CliRunner().invoke(app, ["simulate", "--trace", str(path), *MODEL])
    assert isinstance(result.exception, RefusedError)
    assert "line 3: ContextTokens is 'x'" in str(result.exception)


def test_small_forms() -> None:
    assert parse_failure("die:3@60") == Failure("die", 60.0, 3)
    assert parse_failure("start@5.5") == Failure("start", 5.5)
    assert instances_range("2..40") == (2.0, 40.0)
    assert instances_range("7") == (0.0, 7.0)
