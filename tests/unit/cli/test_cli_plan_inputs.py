"""Where a plan's hardware, times and model come from: files, options, refusals."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.cli.plan_options import milliseconds
from rayserve_par.errors import RefusedError
from rayserve_par.planning import Plan, plan_from_json

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"
CONFIGS = Path(__file__).resolve().parents[3] / "configs"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["plan", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def planned(*arguments: str) -> Plan:
    return plan_from_json(run(*arguments, "--json"))


def refused(*arguments: str) -> str:
    with pytest.raises(RefusedError) as caught:
        run(*arguments)
    return str(caught.value)


def write(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text, encoding="utf-8")
    return str(file)


def test_a_cluster_file_with_a_gpu_and_a_price_of_its_own(tmp_path: Path) -> None:
    file = write(
        tmp_path,
        "cluster.yaml",
        "node_groups:\n  - {name: ours, gpu: Half, nodes: 2, gpus_per_node: 4}\n"
        "gpus:\n  Half: {base: H100, usable_gib: 40, price_per_hour_usd: 1.5}\n",
    )
    found = planned(LLAMA_8B, "--cluster", file, "--tp", "1")
    assert (found.node_group.name, found.instances) == ("ours", 8)
    assert found.memory.usable_bytes == 40 * 2**30
    assert found.dollars_per_hour == 8 * 1.5


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("node_groups: [", ("is not valid YAML",)),
        ("", ("keys with values are wanted",)),
        ("node_groups: []", ("at least one group",)),
        ("node_groups: [{gpu: H900, nodes: 1}]", ("'H900' is not known",)),
        ("node_groups: [{gpu: H100, nodse: 1}]", ("'nodse' is not known", "nodes")),
    ],
)
def test_a_cluster_file_that_is_wrong_is_named(
    text: str, parts: tuple[str, ...], tmp_path: Path
) -> None:
    message = refused(LLAMA_8B, "--cluster", write(tmp_path, "bad.yaml", text))
    for part in ("bad.yaml", *parts):
        assert part in message


def test_a_cluster_file_that_cannot_be_read(tmp_path: Path) -> None:
    assert "No such file" in refused(LLAMA_8B, "--cluster", str(tmp_path / "none.yaml"))
    binary = tmp_path / "binary.yaml"
    binary.write_bytes(b"\xff\xfe\x00")
    assert "not text in UTF-8" in refused(LLAMA_8B, "--cluster", str(binary))


def test_the_hardware_comes_from_one_place() -> None:
    message = refused(LLAMA_8B, "--gpus", "8xH100", "--cluster", "x.yaml")
    assert "--gpus and --cluster each name the hardware" in message


def test_an_address_where_nothing_runs_starts_nothing() -> None:
    assert "Nothing answers at 127.0.0.1:1" in refused(LLAMA_8B, "--address", "127.0.0.1:1")


@pytest.mark.parametrize(
    ("text", "found"),
    [("500", 500.0), ("500ms", 500.0), ("2s", 2000.0), ("1.5 s", 1500.0), (" 20 ms ", 20.0)],
)
def test_times(text: str, found: float) -> None:
    assert milliseconds(text, "--ttft") == found


@pytest.mark.parametrize("text", ["", "0", "0s", "-1", "2m", "fast", "1e3", "2 s s", "nan"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(RefusedError, match=r"--ttft .*Write milliseconds"):
        milliseconds(text, "--ttft")


@given(st.integers(1, 10**6))
def test_seconds_are_a_thousand_milliseconds(count: int) -> None:
    assert milliseconds(f"{count}s", "x") == 1000 * milliseconds(f"{count}ms", "x")


def test_the_workload_of_the_options_wins_key_by_key(tmp_path: Path) -> None:
    config = write(
        tmp_path,
        "app.yaml",
        "applications:\n  - name: a\n    import_path: rayserve_par:build_app\n    args:\n"
        f"      model: {LLAMA_8B}\n      hardware: 8xH100\n"
        "      workload: {isl: 500, osl: 100, rate: 30, ttft_ms: 300}\n",
    )
    own = planned(config).workload
    assert (own.isl, own.osl, own.requests_per_second, own.ttft_limit) == (500, 100, 30, 0.3)
    mixed = planned(config, "--osl", "50", "--ttft", "1s", "--tpot", "20").workload
    assert (mixed.isl, mixed.osl, mixed.ttft_limit, mixed.tpot_limit) == (500, 50, 1.0, 0.02)


def test_a_rate_decides_the_number_of_instances() -> None:
    base = (LLAMA_8B, "--gpus", "8xH100", "--tp", "1")
    one = planned(*base, "--rate", "1")
    assert one.instances == 1
    each = one.point.requests_per_second
    assert planned(*base, "--rate", f"{2.5 * each:.3f}", "--target", "rate").instances == 3
    with pytest.raises(RefusedError, match="9 instances"):
        planned(*base, "--rate", f"{8.5 * each:.3f}")


@pytest.mark.parametrize("target", ["balanced", "latency", "throughput", "cost"])
def test_every_target_is_taken(target: str) -> None:
    assert planned(LLAMA_8B, "--gpus", "4xH100", "--target", target).target.value == target


def profile(**changes: Any) -> str:
    made = {"gpu": "H100", "engine": "vllm 0.32.0", "measured_at": "2026-11-01T10:00:00+00:00"}
    return json.dumps({**made, **changes})


def test_a_profile_of_slower_memory_slows_decoding(tmp_path: Path) -> None:
    arguments = (LLAMA_8B, "--gpus", "1xH100", "--target", "latency")
    shipped = planned(*arguments)
    half = 0.895 * shipped.node_group.gpu.hbm_bytes_per_second / 2
    file = write(tmp_path, "profile.json", profile(copy_bytes_per_second=half))
    slow = planned(*arguments, "--profile", file)
    assert slow.point.decode.dense > 1.5 * shipped.point.decode.dense
    assert f"times corrected by {file}" in run(*arguments, "--profile", file).replace("\n   ", " ")


def test_a_profile_that_does_not_do_is_refused(tmp_path: Path) -> None:
    other = write(tmp_path, "h200.json", profile(gpu="H200"))
    assert "measured on H200, and the cluster has H100" in refused(
        LLAMA_8B, "--gpus", "8xH100", "--profile", other
    )
    broken = write(tmp_path, "broken.json", "{}")
    message = refused(LLAMA_8B, "--gpus", "8xH100", "--profile", broken)
    assert "broken.json" in message
    assert "not a profile's JSON" in message
    missing = str(tmp_path / "none.json")
    unread = refused(LLAMA_8B, "--gpus", "8xH100", "--profile", missing)
    assert unread == f"--profile {missing} cannot be read: No such file or directory."
    mixed = ("--gpus", "8xH100,8xH200", "--profile", write(tmp_path, "h100.json", profile()))
    assert "measured on H100, and the cluster has H200" in refused(LLAMA_8B, *mixed)


@pytest.mark.parametrize("allowance", ["inf", "nan"])
def test_an_allowance_that_is_no_number_is_refused(allowance: str) -> None:
    message = refused(LLAMA_8B, "--gpus", "8xH100", "--kv-allowance", allowance)
    assert "kv_allowance: Input should be a finite number" in message


FACTS = ("--weights-gib", "60", "--layers", "32", "--hidden-size", "5120")


def test_a_model_of_an_unknown_type_by_its_facts() -> None:
    found = planned(
        "some/new-model", "--gpus", "8xH100", *FACTS, "--kv-bytes-per-token", "131072", "--tp", "1"
    )
    assert found.model_name == "some/new-model"
    assert found.memory.weight_bytes == pytest.approx(60 * 2**30, rel=0.02)
    assert found.memory.kv_bytes_per_token_per_rank == 131072
    heads = planned(
        "new", "--gpus", "8xH100", *FACTS, "--kv-heads", "8", "--head-dim", "128", "--tp", "1"
    )
    assert heads.memory.kv_bytes_per_token_per_rank == 32 * 2 * 8 * 128 * 2


@pytest.mark.parametrize(
    ("facts", "parts"),
    [
        (("--layers", "32"), ("--layers", "--weights-gib as well")),
        (("--weights-gib", "60"), ("--layers and --hidden-size",)),
        (FACTS, ("KV cache is not known",)),
        ((*FACTS, "--kv-bytes-per-token", "-1"), ("must be above 0",)),
        (("--weights-gib", "inf", *FACTS[2:]), ("weights_gib is inf",)),
    ],
)
def test_facts_that_do_not_suffice(facts: tuple[str, ...], parts: tuple[str, ...]) -> None:
    message = refused("some/new-model", "--gpus", "8xH100", *facts)
    for part in parts:
        assert part in message
