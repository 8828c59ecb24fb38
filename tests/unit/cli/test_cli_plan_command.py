"""`rayserve-par plan` from outside: what it prints, what it refuses, what it imports."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rayserve_par.cli.main import app, main
from rayserve_par.errors import RefusedError
from rayserve_par.planning import plan_from_json

REPOSITORY = Path(__file__).resolve().parents[3]
CONFIGS = REPOSITORY / "configs"
LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"


def run_plan(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def run_plan_json(*arguments: str) -> Any:
    return json.loads(run_plan(*arguments, "--json"))


# config: the layout it states (None: auto), nodes per instance, every TP group on its own node
READY_CONFIGS: dict[str, tuple[str | None, int, bool]] = {
    "deepseek-v3.1-b200": (None, 1, False),
    "deepseek-v3.1-ep16-h200": ("TP8DP2EP16", 2, True),
    "gpt-oss-120b-h100": (None, 1, False),
    "llama-3.1-405b-h100": (None, 2, True),
    "llama-3.1-8b-h100": (None, 1, False),
    "llama-3.3-70b-fp8-h100": (None, 1, False),
    "qwen3-235b-a22b-fp8-h100": (None, 1, False),
    "smollm2-pp2": ("PP2", 2, True),
    "tiny-llama-replan": (None, 1, False),
    "tiny-llama-tp2": ("TP2", 1, False),
    "tiny-llama-tp2pp2": ("TP2PP2", 2, True),
    "tiny-moe-ep2": ("DP2EP2", 2, True),
}


def test_the_table_names_every_config() -> None:
    stated = {file.stem: "layout:" in file.read_text() for file in CONFIGS.glob("*.yaml")}
    # Of several applications: test_cli_whatif.py, test_serving_node_group.py
    del stated["two-models"], stated["llama-3.3-70b-h100-h200"]
    assert stated == {name: row[0] is not None for name, row in READY_CONFIGS.items()}


@pytest.mark.parametrize("name", sorted(READY_CONFIGS))
def test_every_config_plans(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    found = plan_from_json(run_plan(str(CONFIGS / f"{name}.yaml"), "--json"))
    layout, nodes, own_nodes = READY_CONFIGS[name]
    assert found.explicit is (layout is not None)
    assert found.auto is not None
    assert found.layout.label == (layout or found.auto.label)
    assert (found.nodes_per_instance, found.across_nodes) == (nodes, own_nodes)
    assert [one for one in found.warnings if "rule of thumb" not in one] == []


def test_the_worked_example_is_explained_line_by_line() -> None:
    text = run_plan(str(CONFIGS / "deepseek-v3.1-b200.yaml"), "--dp", "8", "--ep", "8")
    for line in (
        "bytes per parameter = 8 bits / 8 = 1",
        "weights = 671.026B parameters x 1 = 671.0 GB",
        "VRAM = 671.0 GB x 1.8 (KV allowance) = 1207.8 GB",
        "1207.8 GB -> 8 x B200 (8 x 180 GB = 1440 GB)",
        "not 4: 4 x 180 GB = 720 GB leaves no room for KV cache",
        "Memory of a rank (every rank alike)",
        "node 0: 8 of 8 GPUs used",
        "DP 7",
    ):
        assert line in text


def test_an_explicit_layout_shows_what_auto_takes_and_why() -> None:
    text = run_plan(str(CONFIGS / "smollm2-pp2.yaml"))
    assert "asked for: PP2" in text
    assert "What auto takes" in text
    assert "TP1 = 1 GPU per instance" in text
    picture = text[text.index("node 0: 1 of 2 GPUs used") :]
    assert picture.count("stage 0") == picture.count("stage 1") == 1


@pytest.mark.parametrize(
    ("arguments", "layout", "instances", "explicit"),
    [
        ((LLAMA_405B, "--gpus", "2x8xH100"), "TP8PP2", 1, False),
        ((LLAMA_405B, "--gpus", "6x8xH100"), "TP8PP2", 3, False),
        ((LLAMA_405B, "--gpus", "6x8xH100", "--instances", "2"), "TP8PP2", 2, False),
        ((DEEPSEEK, "--gpus", "16xH200", "--tp", "8", "--pp", "2"), "TP8PP2", 1, True),
        ((str(CONFIGS / "smollm2-pp2.yaml"), "--pp", "3", "--across", "auto"), "PP3", 1, True),
        ((str(CONFIGS / "llama-3.1-8b-h100.yaml"), "--instances", "3"), "TP1", 3, False),
    ],
)
def test_options_win_over_the_config(
    arguments: tuple[str, ...], layout: str, instances: int, explicit: bool
) -> None:
    found = plan_from_json(run_plan(*arguments, "--json"))
    assert (found.layout.label, found.instances, found.explicit) == (layout, instances, explicit)


def test_max_model_len_is_the_request_that_must_fit() -> None:
    arguments = ("meta-llama/Llama-3.1-8B-Instruct", "--gpus", "L4", "--tp", "1")
    full_context, short = (
        run_plan_json(*arguments, *more)["warnings"] for more in ((), ("--max-model-len", "4096"))
    )
    assert any("set max_model_len to at most" in warning for warning in full_context)
    assert not any("max_model_len" in warning for warning in short)
    with pytest.raises(RefusedError, match=r"KV of one request of 131072 tokens 16\.00 GiB"):
        run_plan(*arguments, "--max-model-len", "131072")


def test_explain_shows_all_refused_layouts_and_the_exact_memory() -> None:
    arguments = ("HuggingFaceTB/SmolLM2-135M-Instruct", "--gpus", "2x8xL4", "--target", "latency")
    short, whole = run_plan(*arguments), run_plan(*arguments, "--explain")
    refused = run_plan_json(*arguments)["refused"]
    assert len(refused) > 0
    assert "Exact memory" in whole
    assert "Exact memory" not in short
    for one in refused:
        assert one["reasons"][0][:40] in " ".join(whole.split())


def test_several_applications_give_several_plans(tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    app_text = (
        "  - name: {name}\n    route_prefix: /{name}\n    import_path: rayserve_par:build_app\n"
        "    args: {{model: {model}, hardware: 8xH100}}\n"
    )
    config.write_text(
        "applications:\n"
        + app_text.format(name="a", model="openai/gpt-oss-120b")
        + app_text.format(name="b", model="meta-llama/Llama-3.1-8B-Instruct")
        + "  - {name: other, route_prefix: /x, import_path: 'elsewhere:app'}\n",
        encoding="utf-8",
    )
    assert {name: one["model_name"] for name, one in run_plan_json(str(config)).items()} == {
        "a": "openai/gpt-oss-120b",
        "b": "meta-llama/Llama-3.1-8B-Instruct",
    }
    text = run_plan(str(config))
    assert "application a" in text
    assert "application b" in text
    assert "other" not in text


REFUSALS = [
    (("no/such/model", "--gpus", "8xH100"), ("No model 'no/such/model'",)),
    (("/nowhere/model", "--gpus", "8xH100"), ("no folder with a config.json",)),
    (
        ("meta-llama/Llama-3.1-405B-Instruct", "--gpus", "8xH100"),
        ("does not fit", "= 1461.1 GB", "2 nodes of 8 = 16 GPUs", "1 node (8 GPUs) missing"),
    ),
    (
        (LLAMA_405B, "--gpus", "2x8xH200", "--tp", "16"),
        ("TP 16", "8"),
    ),
    (
        (DEEPSEEK, "--gpus", "2x8xH200", "--tp", "8", "--dp", "4", "--ep", "32"),
        ("4", "32 GPUs", "16 GPUs"),
    ),
    (
        (LLAMA_405B, "--gpus", "2x8xH100", "--instances", "2"),
        ("2 x 16 = 32 GPUs", "has 16 GPUs"),
    ),
    (
        ("HuggingFaceTB/SmolLM2-135M-Instruct", "--gpus", "2x2xlogical-cpu", "--tp", "2"),
        ("9 / 2 = 4.5",),
    ),
    ((LLAMA_405B,), ("--gpus 8xH100", "--gpus 2x8xH200", "H200")),
    ((LLAMA_405B, "--gpus", "8xH900"), ("'H900' is not known", "H100")),
    ((LLAMA_405B, "--gpus", "12xH100"), ("12 / 8 = 1.5",)),
    (("nowhere.yaml",), ("There is no config file nowhere.yaml",)),
    ((LLAMA_405B, "--gpus", "2x8xH200", "--kv-allowance", "-1"), ("kv_allowance",)),
]


@pytest.mark.parametrize(("arguments", "parts"), REFUSALS, ids=lambda value: " ".join(value)[:60])
def test_refusals_exit_with_code_2_and_the_numbers(
    arguments: tuple[str, ...],
    parts: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(sys, "argv", ["rayserve-par", "plan", *arguments])
    monkeypatch.setenv("COLUMNS", "1000")
    with pytest.raises(SystemExit) as exit_:
        main()
    shown = capsys.readouterr()
    assert exit_.value.code == 2
    assert shown.out == ""
    assert shown.err.startswith("Refused: ")
    for part in parts:
        assert part in shown.err


def test_a_config_with_no_hardware_asks_for_gpus(tmp_path: Path) -> None:
    config = tmp_path / "plain.yaml"
    config.write_text(
        "applications:\n  - name: x\n    import_path: rayserve_par:build_app\n"
        "    args: {model: openai/gpt-oss-120b}\n",
        encoding="utf-8",
    )
    with pytest.raises(RefusedError, match=r"application x of .*plain\.yaml.*--gpus 8xH100"):
        run_plan(str(config))
    assert run_plan_json(str(config), "--gpus", "8xH100")["node_group"]["gpu"]["name"] == "H100"


HEAVY = ("jinja2", "ray", "vllm", "torch", "transformers", "huggingface_hub", "numpy")
_COLD = """
import sys
sys.argv = ["rayserve-par", "plan", sys.argv[1]]
from rayserve_par.cli.main import main
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("HEAVY", [name for name in {heavy} if name in sys.modules], file=sys.stderr)
"""


def cold_plan(environment: dict[str, str]) -> tuple[float, str]:
    """Seconds and standard error of one plan in a fresh interpreter."""
    config = str(CONFIGS / "deepseek-v3.1-b200.yaml")
    command = [sys.executable, "-c", _COLD.format(heavy=HEAVY), config]
    start = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return time.perf_counter() - start, done.stderr


def test_a_cold_plan_is_quick_and_imports_nothing_heavy(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(tmp_path)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    _, said = cold_plan(environment)
    assert said.splitlines()[-1] == "HEAVY []"
    # 0.4 s alone on two cores; the bound leaves room for a busy machine.
    assert min(cold_plan(environment)[0] for _ in range(3)) < 2.0
