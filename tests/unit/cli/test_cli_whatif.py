"""`rayserve-par whatif`: clusters changed, plans side by side."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rayserve_par.cli.cluster_change import changes_on
from rayserve_par.cli.main import app
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import Cluster, cluster_from_mapping, parse_cluster

LLAMA_405B = "meta-llama/Llama-3.1-405B-Instruct"
LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"


def run(*arguments: str) -> str:
    done = CliRunner().invoke(app, ["whatif", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


def run_json(*arguments: str) -> Any:
    return json.loads(run(*arguments, "--json"))


def changed(cluster: str, **asked: Any) -> list[str | None]:
    base = parse_cluster(cluster)
    after = [change.on(base) for change in changes_on(base, **asked)]
    return [one.label if one else None for one in after]


@pytest.mark.parametrize(
    ("cluster", "asked", "labels"),
    [
        ("2x8xH200", {"add": ["1x8xH200"]}, ["3x8xH200"]),
        ("2x8xH200", {"add": ["8xh200"]}, ["3x8xH200"]),
        ("2x8xH200", {"add": ["4xH200"]}, ["2x8xH200,1x4xH200"]),
        ("2x8xH200", {"add": ["1x8xB200", "4xL4"]}, ["2x8xH200,1x8xB200", "2x8xH200,1x4xL4"]),
        ("2x8xH200", {"add": ["1x8xB200,2x4xL4"]}, ["2x8xH200,1x8xB200,2x4xL4"]),
        ("2x8xH200", {"remove": ["1x8xH200"]}, ["1x8xH200"]),
        ("2x8xH200", {"remove": ["16xH200"]}, [None]),
        ("2x8xH200,1x4xL4", {"remove": ["2x8xH200"]}, ["1x4xL4"]),
        ("2x8xH200", {"add_gpus": [8, 24]}, ["3x8xH200", "5x8xH200"]),
        (
            "2x8xH200",
            {"add": ["1x8xB200"], "remove": ["1x8xH200"]},
            ["2x8xH200,1x8xB200", "1x8xH200"],
        ),
        (
            "2x8xH200",
            {"add": ["1x8xB200"], "remove": ["2x8xH200"], "together": True},
            ["1x8xB200"],
        ),
    ],
)
def test_clusters_after_changes(
    cluster: str, asked: dict[str, Any], labels: list[str | None]
) -> None:
    assert changed(cluster, **asked) == labels


@pytest.mark.parametrize(
    ("cluster", "asked", "message"),
    [
        ("2x8xH200", {"remove": ["3x8xH200"]}, r"of 2x8xH200 2 are such: 3 - 2 = 1 missing"),
        ("2x8xH200", {"remove": ["1x8xB200"]}, r"0 are such: 1 - 0 = 1 missing"),
        ("2x8xH200", {"remove": ["1x4xH200"]}, r"1 nodes of 4 x H200 .* 0 are such"),
        ("2x8xH200", {"add_gpus": [4]}, r"4 / 8 = 0.5 nodes. Give a multiple of 8"),
        ("2x8xH200", {"add_gpus": [-8]}, r"Give a multiple of 8"),
        ("2x8xH200,4xL4", {"add_gpus": [8]}, r"several kinds of nodes \(2x8xH200, 1x4xL4\)"),
        ("2x8xH200", {"add": ["1x8xH900"]}, r"'H900' is not known"),
    ],
)
def test_changes_that_cannot_be(cluster: str, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        changed(cluster, **asked)


def test_added_nodes_have_the_clusters_own_gpus() -> None:
    base = cluster_from_mapping(
        {"node_groups": [{"gpu": "H100", "nodes": 1}], "gpus": {"H100": {"price_per_hour_usd": 2}}}
    )
    (wider,) = changes_on(base, add=["4xH100"])
    after = wider.on(base)
    assert after is not None
    assert [group.gpu.price_per_hour_usd for group in after.node_groups] == [2, 2]
    assert len({group.name for group in after.node_groups}) == 2


@given(nodes=st.integers(1, 20), more=st.integers(1, 20))
def test_what_is_added_can_be_taken_away_again(nodes: int, more: int) -> None:
    base = parse_cluster(f"{nodes}x8xH200,1x4xL4")
    text = f"{more}x8xH200"
    (added,) = changes_on(base, add=[text])
    wider = added.on(base)
    assert wider is not None
    assert wider.gpus == base.gpus + 8 * more
    (removed,) = changes_on(wider, remove=[text])
    assert removed.on(wider) == base


def test_nodes_of_several_alike_groups_are_taken_from_the_last() -> None:
    group = parse_cluster("2x8xH200").node_groups[0]
    from dataclasses import replace

    base = Cluster((group, replace(group, name="late")))
    (change,) = changes_on(base, remove=["3x8xH200"])
    after = change.on(base)
    assert after is not None
    assert [(one.name, one.nodes) for one in after.node_groups] == [("h200", 1)]


def test_now_and_changes_side_by_side() -> None:
    text = run(LLAMA_8B, "--gpus", "2x8xH100", "--tp", "1", "--add-gpus", "16")
    head = next(line for line in text.splitlines() if "now" in line)
    assert "+ 16 GPUs" in head
    for row, cells in (
        ("cluster", ("2x8xH100", "4x8xH100")),
        ("layout", ("TP1", "TP1")),
        ("instances", ("16", "32 (+100%)")),
    ):
        line = next(line for line in text.splitlines() if line.strip().startswith(row))
        for cell in cells:
            assert cell in line
    assert "+ 32 instances (replicas): 4x8xH100 holds 32" in text
    assert "- 16 instances (replicas): 2x8xH100 holds 16" in text


def test_a_change_after_which_nothing_fits_is_shown() -> None:
    arguments = (LLAMA_405B, "--gpus", "2x8xH100", "--remove", "1x8xH100", "--remove", "16xH100")
    text = run(*arguments)
    assert text.count("does not fit") >= 4
    assert "1 node (8 GPUs) missing" in " ".join(text.split())
    assert "No node is left." in text
    found = run_json(*arguments)
    assert found["now"]["plan"]["layout"] == {"tp": 8, "pp": 2, "dp": 1, "ep": 1}
    assert [change["plan"] for change in found["changes"]] == [None, None]
    assert found["changes"][1]["refused"] == "No node is left."


def test_what_does_not_fit_now_may_fit_with_more() -> None:
    found = run_json(LLAMA_405B, "--gpus", "8xH100", "--add", "8xH100")
    assert found["now"]["plan"] is None
    assert "does not fit" in found["now"]["refused"]
    (change,) = found["changes"]
    assert (change["change"], change["cluster"]) == ("+ 8xH100", "2x8xH100")
    assert change["plan"]["instances"] == 1
    assert change["new_reasons"]
    text = run(LLAMA_405B, "--gpus", "8xH100", "--add", "8xH100")
    assert "now: does not fit" in text


def test_the_same_plan_has_the_same_reasons() -> None:
    arguments = (LLAMA_8B, "--gpus", "1x8xH100", "--tp", "1", "--instances", "1", "--add", "8xH100")
    (change,) = run_json(*arguments)["changes"]
    assert all("1x8xH100" in line for line in change["gone_reasons"])


def test_a_whatif_without_a_change_is_refused() -> None:
    with pytest.raises(RefusedError, match="No change is named"):
        run(LLAMA_8B, "--gpus", "8xH100")


def test_several_applications(tmp_path: Path) -> None:
    config = tmp_path / "two.yaml"
    config.write_text(
        "applications:\n"
        + "".join(
            f"  - name: {name}\n    route_prefix: /{name}\n"
            "    import_path: rayserve_par:build_app\n"
            f"    args: {{model: {LLAMA_8B}, served_model_name: {name}, hardware: 8xH100,"
            " num_replicas: fit}\n"
            for name in ("a", "b")
        ),
        encoding="utf-8",
    )
    found = run_json(str(config), "--add", "8xH100")
    assert sorted(found) == ["a", "b"]
    text = run(str(config), "--add", "8xH100")
    assert "application a" in text
    assert "application b" in text
