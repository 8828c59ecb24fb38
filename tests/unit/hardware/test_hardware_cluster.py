"""Clusters, and the short form that people type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import Cluster, NodeGroup, gpu_by_name, gpu_names, parse_cluster


@pytest.mark.parametrize(
    ("text", "groups"),
    [
        ("16xH200", [("h200", 2, 8)]),
        ("8xH200", [("h200", 1, 8)]),
        ("4xH200", [("h200", 1, 4)]),
        ("1xH100", [("h100", 1, 1)]),
        ("2x8xH200", [("h200", 2, 8)]),
        ("2 x 8 x h200", [("h200", 2, 8)]),
        ("3X4XH100", [("h100", 3, 4)]),
        ("B200", [("b200", 1, 8)]),
        ("72xGB200", [("gb200", 18, 4)]),
        ("2x2xlogical-cpu", [("logical-cpu", 2, 2)]),
        ("8xA100-80", [("a100-80", 1, 8)]),
        ("3x8xH100, 2x4xL40S", [("h100", 3, 8), ("l40s", 2, 4)]),
        ("8xH100,2x4xH100", [("h100", 1, 8), ("h100-2", 2, 4)]),
    ],
)
def test_parse(text: str, groups: list[tuple[str, int, int]]) -> None:
    cluster = parse_cluster(text)
    assert [(g.name, g.nodes, g.gpus_per_node) for g in cluster.node_groups] == groups
    assert cluster.gpus == sum(nodes * size for _, nodes, size in groups)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("12xH200", r"12 / 8 = 1.5. Write 8xH200 or 16xH200"),
        ("0xH200", "0 is not at least 1"),
        ("2x0xH200", "0 is not at least 1"),
        ("", "is not a node group"),
        ("8", "is not a node group"),
        ("8xH200,", "is not a node group"),
        ("2x2x2xH200", "GPU 'x2xH200' is not known|is not a node group"),
        ("8xH201", "Nearest: .*H200"),
    ],
)
def test_refused(text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        parse_cluster(text)


@given(
    st.lists(
        st.tuples(st.integers(1, 2000), st.integers(1, 16), st.sampled_from(gpu_names())),
        min_size=1,
        max_size=4,
    )
)
def test_the_label_reads_back(groups: list[tuple[int, int, str]]) -> None:
    text = ",".join(f"{nodes}x{size}x{name}" for nodes, size, name in groups)
    cluster = parse_cluster(text)
    assert cluster.label == text
    assert parse_cluster(cluster.label) == cluster


@pytest.mark.parametrize(
    ("gpu", "size", "limit"),
    [("H100", 8, 8), ("H100", 4, 4), ("H100-NVL", 8, 2), ("GB200", 4, 4), ("L40S", 4, 4)],
)
def test_tp_stays_in_a_node_and_a_domain(gpu: str, size: int, limit: int) -> None:
    assert NodeGroup("g", gpu_by_name(gpu), 2, size).tp_limit == limit


def test_names_of_groups_differ() -> None:
    group = NodeGroup("g", gpu_by_name("H100"), 1, 8)
    with pytest.raises(RefusedError, match="same name: g"):
        Cluster((group, group))
    with pytest.raises(RefusedError, match="at least one node group"):
        Cluster(())
    with pytest.raises(RefusedError, match="0 nodes of 8"):
        NodeGroup("g", gpu_by_name("H100"), 0, 8)
