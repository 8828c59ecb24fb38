"""--out: a Serve config that plans again as it was planned."""

from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.control.config_file import read_config
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import Plan, plan_from_json
from rayserve_par.serving.app import plan_for
from rayserve_par.serving.model_store.locate import locate_model

CONFIGS = Path(__file__).resolve().parents[3] / "configs"
DEEPSEEK = "deepseek-ai/DeepSeek-V3.1"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def planned(*arguments: str) -> Plan:
    return plan_from_json(run(*arguments, "--json"))


def same(again: Plan, first: Plan) -> None:
    assert again.explicit
    assert (again.layout, again.instances) == (first.layout, first.instances)
    assert (again.node_group, again.across_nodes) == (first.node_group, first.across_nodes)
    assert again.workload == first.workload
    for memory in ("weights", "reserve", "kv_bytes", "stage"):
        assert getattr(again.memory, memory) == getattr(first.memory, memory)
    assert not any("max_model_len" in line for line in again.warnings)


@pytest.mark.parametrize(
    "arguments",
    [
        ("openai/gpt-oss-120b", "--gpus", "8xH100"),
        (DEEPSEEK, "--gpus", "16xH200", "--tp", "8", "--dp", "2", "--ep", "16"),
        (DEEPSEEK, "--gpus", "36xGB200", "--tp", "16"),
        ("meta-llama/Llama-3.1-405B-Instruct", "--gpus", "6x8xH100", "--instances", "2"),
        (
            "meta-llama/Llama-3.1-8B-Instruct",
            *("--gpus", "4xL4,8xH100", "--target", "latency", "--max-model-len", "8192"),
            *("--isl", "2000", "--osl", "100", "--ttft", "2s", "--tpot", "30"),
        ),
        (str(CONFIGS / "smollm2-pp2.yaml"),),
        (str(CONFIGS / "gpt-oss-120b-h100.yaml"),),  # scales: keeps its autoscaling
        (str(CONFIGS / "deepseek-v3.1-ep16-h200.yaml"),),
    ],
)
def test_the_config_written_plans_the_same(arguments: tuple[str, ...], tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    first = planned(*arguments, "--out", str(out))
    same(planned(str(out)), first)
    (one,) = read_config(out).apps
    model = locate_model(one.args.model, prepare=False)
    same(plan_for(one.args, model, parse_cluster(one.args.hardware or "")), first)


def test_what_is_written(tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    run("openai/gpt-oss-120b", "--gpus", "8xH100", "--tp", "2", "--osl", "64", "--out", str(out))
    text = out.read_text(encoding="utf-8")
    assert text.startswith("# gpt-oss-120b: TP2 on 1x8xH100, planned by rayserve-par for ISL 1024")
    assert yaml.safe_load(text) == {
        "proxy_location": "EveryNode",
        "http_options": {"host": "0.0.0.0", "port": 8000},
        "applications": [
            {
                "name": "gpt-oss-120b",
                "route_prefix": "/",
                "import_path": "rayserve_par:build_app",
                "args": {
                    "model": "openai/gpt-oss-120b",
                    "num_replicas": 4,
                    "workload": {"osl": 64, "isl": 1024},
                    "layout": {"tp": 2},
                    "hardware": "1x8xH100",
                },
            }
        ],
    }


LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"


def test_the_longest_request_that_fits_is_written(tmp_path: Path) -> None:
    """Without it the engine does not start: the KV cache does not hold the full context."""
    out, again_out = tmp_path / "serve.yaml", tmp_path / "again.yaml"
    first = planned(LLAMA_8B, "--gpus", "4xL4", "--tp", "1", "--out", str(out))
    warning = f"set max_model_len to at most {first.memory.longest_request:,}"
    assert any(warning in line for line in first.warnings)
    (one,) = read_config(out).apps
    length = one.args.engine["max_model_len"]
    assert first.memory.fits(length)
    assert first.memory.kv_tokens - 16 <= length <= first.memory.kv_tokens
    again = planned(str(out), "--out", str(again_out))
    same(again, first)
    assert read_config(again_out).apps[0].args == one.args


@pytest.mark.parametrize(
    ("gpus", "arguments", "engine"),
    [
        ("4xL4", ("--max-model-len", "4096"), {"max_model_len": 4096}),
        ("8xH100", (), {}),  # holds the full context
    ],
)
def test_no_other_length_is_written(
    gpus: str, arguments: tuple[str, ...], engine: dict[str, int], tmp_path: Path
) -> None:
    out = tmp_path / "serve.yaml"
    run(LLAMA_8B, "--gpus", gpus, *arguments, "--out", str(out))
    assert read_config(out).apps[0].args.engine == engine


def test_windows_make_the_longest_request_shorter_than_the_kv_tokens(tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    arguments = ("openai/gpt-oss-120b", "--gpus", "8xH100", "--tp", "1")
    first = planned(*arguments, "--out", str(out))
    length = read_config(out).apps[0].args.max_model_len
    assert length is not None
    assert length < first.memory.kv_tokens
    assert first.memory.fits(length)
    assert not first.memory.fits(length + 1)


def test_the_default_workload_is_written(tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    run("openai/gpt-oss-120b", "--gpus", "8xH100", "--out", str(out))
    args = read_config(out).document["applications"][0]["args"]
    assert args["workload"] == {"isl": 1024, "osl": 256}


def test_a_config_keeps_what_is_not_decided(tmp_path: Path) -> None:
    source = CONFIGS / "gpt-oss-120b-h100.yaml"
    out = tmp_path / "serve.yaml"
    run(str(source), "--out", str(out))
    before, after = (yaml.safe_load(file.read_text(encoding="utf-8")) for file in (source, out))
    own, args = (one["applications"][0].pop("args") for one in (before, after))
    assert after == before
    assert args["engine"] == own["engine"]
    assert args["autoscaling"] == own["autoscaling"]
    assert "num_replicas" not in args


def test_hardware_that_only_a_file_knows_is_left_out(tmp_path: Path) -> None:
    cluster = tmp_path / "cluster.yaml"
    cluster.write_text(
        "node_groups: [{gpu: Ours, nodes: 1}]\ngpus: {Ours: {base: H100}}\n", encoding="utf-8"
    )
    out = tmp_path / "serve.yaml"
    given = ("--cluster", str(cluster))
    first = planned("openai/gpt-oss-120b", *given, "--tp", "2", "--out", str(out))
    assert "hardware" not in read_config(out).document["applications"][0]["args"]
    same(planned(str(out), *given), first)


def test_nothing_is_replaced_unless_forced(tmp_path: Path) -> None:
    out = tmp_path / "serve.yaml"
    out.write_text("mine", encoding="utf-8")
    arguments = ("openai/gpt-oss-120b", "--gpus", "8xH100")
    for option in ("--out", "--html"):
        with pytest.raises(RefusedError, match=f"{option} .*is there already. --force"):
            run(*arguments, option, str(out))
    assert out.read_text(encoding="utf-8") == "mine"
    run(*arguments, "--out", str(out), "--force")
    assert read_config(out).apps[0].args.model == "openai/gpt-oss-120b"


@pytest.mark.parametrize("option", ["--out", "--html"])
def test_a_place_that_cannot_be_written(option: str, tmp_path: Path) -> None:
    arguments = ("openai/gpt-oss-120b", "--gpus", "8xH100", option)
    with pytest.raises(RefusedError, match="it is a folder"):
        run(*arguments, str(tmp_path), "--force")
    with pytest.raises(RefusedError, match="its folder does not exist"):
        run(*arguments, str(tmp_path / "none" / "x"))


def test_a_model_by_its_facts_cannot_be_deployed(tmp_path: Path) -> None:
    facts = ("--weights-gib", "60", "--layers", "32", "--hidden-size", "5120")
    with pytest.raises(RefusedError, match="not known there"):
        run("new", "--gpus", "8xH100", *facts, "--out", str(tmp_path / "x.yaml"))
