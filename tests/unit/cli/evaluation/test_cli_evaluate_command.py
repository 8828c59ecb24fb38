"""`rayserve-par evaluate` as a whole."""

import json
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
from evaluation_cases import ENGINE, LAYOUT, MEMORY, SERVED, SHARED, write_configs, write_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console
from typer.testing import CliRunner

from rayserve_par.cli.evaluation.config_folder import ConfigFolder
from rayserve_par.cli.evaluation.evaluate import evaluate, judge
from rayserve_par.cli.evaluation.evidence import Kind, Row
from rayserve_par.cli.evaluation.forecast import Forecaster
from rayserve_par.cli.evaluation.inputs import ServedInput
from rayserve_par.cli.evaluation.report import render_summary
from rayserve_par.cli.main import app
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.planning.performance import predictor

ROWS: dict[Kind, dict[str, Any]] = {
    Kind.LATENCY: SERVED,
    Kind.ENGINE: ENGINE,
    Kind.MEMORY: MEMORY,
    Kind.LAYOUT: LAYOUT,
}
MEASURED: dict[Kind, tuple[str, ...]] = {
    Kind.LATENCY: ("ttft_ms", "tpot_ms"),
    Kind.ENGINE: ("weights_gib_per_gpu", "kv_gib_per_gpu", "kv_tokens", "cuda_graph_gib"),
    Kind.MEMORY: ("weights_gib", "activation_peak_gib", "kv_gib"),
    Kind.LAYOUT: ("tp", "pp", "ep", "dp", "gpus_used", "note", "dp_kind", "layout_stated"),
}
TABLES = ("tpot_s_by_batch_at_1024_prompt", "prefill_s_by_prompt_tokens")


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    evidence = write_rows(
        tmp_path / "evidence",
        measured_latency=[
            SERVED,
            {**SERVED, "gpus": 1, "tp": 1, "ttft_ms": 60.0, "tpot_ms": 8.0},
            {**SERVED, "gpu": "Voodoo2"},
            '{"model": ',
            "[1, 2]",
            "",
            {**SERVED, "model": "acme/unheard-of"},
        ],
        h200_engine=[ENGINE],
        measured_memory=[MEMORY],
        published_layouts=[LAYOUT, {**LAYOUT, "gpus_used": 2, "tp": 2, "ep": 2}],
    )
    return evidence, write_configs(tmp_path / "configs", {})


@pytest.fixture(scope="module")
def forecaster(tmp_path_factory: pytest.TempPathFactory) -> Forecaster:
    return Forecaster(ConfigFolder(tmp_path_factory.mktemp("configs")))


def run(folders: tuple[Path, Path], *options: str) -> str:
    evidence, configs = map(str, folders)
    arguments = ["evaluate", "--evidence", evidence, "--configs", configs, *options]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    return done.output


def test_every_row_is_written_with_its_predictions_or_its_reason(
    folders: tuple[Path, Path], tmp_path: Path
) -> None:
    out = tmp_path / "out.jsonl"
    run(folders, "--rows", str(out))
    rows = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 10
    for row in rows:
        assert ("skipped" in row) != ("predicted_fits" in row)
    served, _, gpu, cut, no_object, unknown, engine, memory, layout, _ = rows
    assert {key: served[key] for key in SERVED} == SERVED
    assert served["predicted_ttft_ms"] > served["predicted_tpot_ms"] > 0
    assert served["predicted_weights_gib_per_gpu"] == pytest.approx(7.5, rel=0.02)
    assert "GPU 'Voodoo2' is not known" in gpu["skipped"]
    assert cut["skipped"].startswith("line 4 is not valid JSON")
    assert no_object["skipped"] == "line 5 is no JSON object"
    assert "no config for 'acme/unheard-of'" in unknown["skipped"]
    assert engine["predicted_kv_tokens"] == pytest.approx(ENGINE["kv_tokens"], rel=0.03)
    assert engine["predicted_kv_gib_per_gpu"] == pytest.approx(111.61, rel=0.03)
    for table in TABLES:
        assert set(engine[f"predicted_{table}"]) == set(ROWS[Kind.ENGINE][table])
        assert memory[f"predicted_{table}"]
    assert memory["predicted_kv_gib_per_gpu"] == pytest.approx(51.38, rel=0.05)
    assert layout["chosen_gpus"] == 8
    assert set(layout["chosen_layout"]) == {"tp", "pp", "dp", "ep"}


def test_summary_as_json(folders: tuple[Path, Path]) -> None:
    found = json.loads(run(folders, "--json"))
    latency = found["latency"]
    assert (latency["rows"], latency["tpot"]["n"]) == (7 - 1, 2)
    assert sum(latency["skipped"].values()) == 4
    assert list(latency["by_family"]) == ["llama-3.1-8b"]
    # Two layouts; both are under 10 ms, so every limit is a case.
    assert (found["choice"]["groups"], found["choice"]["cases"]) == (1, 5)
    assert found["engine"]["kv_tokens"]["max"] < 0.03
    assert set(found["engine"]["tpot_by_batch"]) == {"1", "128"}
    assert found["memory"]["fit"] == 1
    assert (found["layouts"]["judged"], found["layouts"]["agreed"]) == (2, 1)
    (disagreement,) = found["layouts"]["disagreements"]
    assert disagreement["line"] == 2
    assert disagreement["why"].startswith("TP2EP2 does not fit")


def test_summary_as_tables(folders: tuple[Path, Path]) -> None:
    text = run(folders)
    for part in (
        "Served rows",
        "llama-3.1-8b",
        "skipped 1: GPU 'Voodoo2' is not known",
        "Choice among measured layouts",
        "llama8b",
        "1 of 2 have as many GPUs as ours",
        "TP2EP2 does not fit",
    ):
        assert part in text


@pytest.mark.parametrize("name", ["measured_latency", "published_layouts", "measured_memory"])
def test_any_file_alone(tmp_path: Path, name: str) -> None:
    row = ROWS[Kind(f"{name}.jsonl")]
    evidence = write_rows(tmp_path / "evidence", **{name: [row]})
    folders = (evidence, write_configs(tmp_path / "configs", {}))
    assert "skipped" not in run(folders)
    assert len(json.loads(run(folders, "--json"))) in (1, 2)


def test_odd_words_and_numbers_do_not_lose_the_run(tmp_path: Path) -> None:
    markup = "vllm [/x] \ud800"
    rows = [
        {**SERVED, "engine": markup, "note": "\ud800", "gpus": gpus, "tp": gpus}
        | {"ttft_ms": 20.0 * gpus, "tpot_ms": 5.0}
        for gpus in (1, 2)
    ]
    evidence = write_rows(
        tmp_path / "evidence",
        measured_latency=[*rows, {**SERVED, "ttft_ms": 10**400}],
        h200_engine=[{**ENGINE, "name": "[/x]"}],
        measured_memory=[{**MEMORY, "name": 5, "kv_gib": 10**400}],
    )
    folders = (evidence, write_configs(tmp_path / "configs", {}))
    out = tmp_path / "out.jsonl"
    text = run(folders, "--rows", str(out))
    assert "vllm [/x] ?" in text
    assert "skipped" not in text
    written = [json.loads(line) for line in out.read_text(encoding="utf-8").splitlines()]
    assert [row.get("note") for row in written[:2]] == ["\ud800"] * 2
    assert written[2]["predicted_ttft_ms"] > 0
    found = json.loads(run(folders, "--json"))
    assert (found["latency"]["tpot"]["n"], found["latency"]["ttft"]["n"]) == (3, 2)
    assert found["memory"]["engines"][0]["name"] == "5"
    assert found["memory"]["kv_gib"]["n"] == 0


def test_markup_in_a_group_of_the_choice() -> None:
    worst = {"group": ["m [/x]"], "tpot_limit_ms": 10.0, "ours": "TP1", "best": "TP2"}
    choice = {"cases": 1, "groups": 1, "mean_regret": 0.5, "top_1": 0.0}
    console = Console(width=120)
    with console.capture() as capture:
        console.print(render_summary({"choice": {**choice, "worst": [{**worst, "regret": 0.5}]}}))
    assert "m [/x]" in capture.get()


EP16 = {"model": "deepseek-ai/DeepSeek-V3.1", "precision": "fp8", "gpus": 16, "moe_ep": 16}


@pytest.mark.parametrize(
    ("changes", "nodes"),
    [
        ({**EP16, "gpu": "h100_sxm", "tp": 2, "attention_dp": 8}, 2),
        ({**EP16, "gpu": "h100_sxm", "tp": 2, "pp": 2, "attention_dp": 4, "moe_ep": 8}, 1),
        ({**EP16, "gpu": "h100_sxm", "tp": 8, "attention_dp": 1, "moe_ep": 8, "gpus": 8}, 1),
        ({**EP16, "gpu": "h100_sxm", "tp": 16, "attention_dp": 1}, 2),
        # One NVLink domain joins four nodes of 4.
        ({**EP16, "gpu": "gb200", "tp": 2, "attention_dp": 8}, 1),
    ],
)
def test_ranks_on_several_nodes_talk_over_nics(
    forecaster: Forecaster, changes: dict[str, Any], nodes: int
) -> None:
    given = ServedInput.of({**SERVED, **changes})
    model, gpu = forecaster.configs.spec(given.model, "fp8"), gpu_by_name(given.gpu)
    expected = predictor(
        model,
        gpu,
        given.layout,
        stages_share_a_node=given.gpu == "gb200" or given.layout.gpus <= 8,
        nodes_per_stage=nodes,
    ).at(isl=given.isl, osl=given.osl, streams=given.concurrency)
    assert forecaster.served(given)["predicted_tpot_ms"] == pytest.approx(
        1e3 * expected.tpot_seconds
    )


def test_a_second_node_costs_time(forecaster: Forecaster) -> None:
    wide = {**SERVED, **EP16, "tp": 2, "attention_dp": 8, "isl": 4096}
    over_nics = forecaster.served(ServedInput.of({**wide, "gpu": "h100_sxm"}))
    gpu = gpu_by_name("h100_sxm")
    given = ServedInput.of({**wide, "gpu": "h100_sxm"})
    model = forecaster.configs.spec(given.model, "fp8")
    inside = predictor(model, gpu, given.layout).at(isl=4096, osl=512, streams=8)
    assert over_nics["predicted_ttft_ms"] > 1e3 * inside.ttft_seconds


def test_folders_that_are_not_there(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such folder"):
        evaluate(tmp_path / "nothing", tmp_path)
    with pytest.raises(RefusedError, match="has none of measured_latency"):
        evaluate(tmp_path, tmp_path)
    evidence = write_rows(tmp_path / "evidence", measured_latency=[SERVED])
    arguments = ["evaluate", "--evidence", str(evidence), "--configs", str(evidence)]
    with pytest.raises(RefusedError, match="cannot be written"):
        CliRunner().invoke(
            app, [*arguments, "--rows", str(tmp_path / "no" / "x")], catch_exceptions=False
        )


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=3,
)


@pytest.mark.parametrize("kind", list(Kind))
@settings(max_examples=30)
@given(data=st.data())
def test_measured_fields_change_no_prediction(
    forecaster: Forecaster, kind: Kind, data: st.DataObject
) -> None:
    row = ROWS[kind]
    other = dict(row)
    for key in MEASURED[kind]:
        other[key] = data.draw(_json, label=key)
    for table in TABLES:
        if table in row:
            other[table] = {key: data.draw(_json) for key in row[table]}
    expected = judge(Row(kind, 1, row), forecaster)
    assert expected.skipped is None
    assert judge(Row(kind, 1, other), forecaster).predicted == expected.predicted


@pytest.mark.parametrize("kind", list(Kind))
@settings(max_examples=100)
@given(data=st.data())
def test_no_row_stops_the_others(forecaster: Forecaster, kind: Kind, data: st.DataObject) -> None:
    row = dict(ROWS[kind])
    for key in data.draw(st.lists(st.sampled_from(sorted(row)), max_size=3)):
        row[key] = data.draw(_json | st.integers(0, 20), label=key)
    found = judge(Row(kind, 1, row), forecaster)
    assert (found.skipped is None) == bool(found.predicted)
    json.loads(json.dumps(found.written))


def test_three_thousand_rows_in_time(tmp_path: Path) -> None:
    rows = [
        {**SERVED, "tp": tp, "gpus": tp, "isl": isl, "concurrency": streams}
        for tp in (1, 2, 4, 8)
        for isl in range(100, 5100, 200)
        for streams in range(1, 31)
    ]
    evidence = write_rows(tmp_path / "evidence", measured_latency=rows)
    began = perf_counter()
    found = evaluate(evidence, write_configs(tmp_path / "configs", {})).summary
    assert found["latency"]["tpot"]["n"] == len(rows) == 3000
    assert perf_counter() - began < 30


@pytest.mark.skipif(not (SHARED / "evidence").is_dir(), reason="no shared evidence here")
def test_all_shared_evidence() -> None:
    found = evaluate(SHARED / "evidence", SHARED / "model_configs").summary
    assert not found["latency"]["skipped"]
    assert found["engine"]["kv_tokens"]["max"] < 0.03
    assert found["memory"]["kv_gib"]["max"] < 0.05
    for part in ("engine", "memory"):
        assert found[part]["fit"] == found[part]["rows"]
    unknown = found["layouts"]["skipped"]
    assert all("no config for" in reason for reason in unknown), unknown
