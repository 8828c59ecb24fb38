"""Clusters, and the short form that people type."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

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
    ("gpu", "nodes", "size", "limit", "nodes_per_domain", "domains"),
    [
        ("H100", 2, 8, 8, 1, 2),
        ("H100", 2, 4, 4, 1, 2),
        ("logical-cpu", 4, 1, 1, 1, 4),
        ("GB200", 9, 8, 72, 9, 1),
        ("H100-NVL", 2, 8, 2, 1, 8),
        ("L40S", 3, 4, 4, 1, 3),
        ("GB200", 1, 4, 4, 18, 1),
        ("GB200", 2, 4, 8, 18, 1),
        ("GB300", 18, 4, 72, 18, 1),
        ("GB300", 19, 4, 72, 18, 2),
        ("GB300", 36, 4, 72, 18, 2),
        ("GB200", 20, 5, 70, 14, 2),
    ],
)
def test_tp_stays_in_one_nvlink_domain(
    gpu: str, nodes: int, size: int, limit: int, nodes_per_domain: int, domains: int
) -> None:
    group = NodeGroup("g", gpu_by_name(gpu), nodes, size)
    assert group.tp_limit == limit
    assert (group.nodes_per_domain, group.domains) == (nodes_per_domain, domains)


@given(st.sampled_from(gpu_names()), st.integers(1, 1250), st.integers(1, 16), st.integers(1, 100))
def test_domain_arithmetic(name: str, nodes: int, size: int, more: int) -> None:
    group = NodeGroup("g", gpu_by_name(name), nodes, size)
    domain = group.gpu.nvlink_domain_gpus
    assert 1 <= group.tp_limit <= min(domain, group.gpus)
    # Every GPU is in a domain, and no domain is empty.
    assert group.domains * domain >= group.gpus >= group.domains
    assert NodeGroup("g", group.gpu, nodes + more, size).tp_limit >= group.tp_limit


def test_names_of_groups_differ() -> None:
    group = NodeGroup("g", gpu_by_name("H100"), 1, 8)
    with pytest.raises(RefusedError, match="same name: g"):
        Cluster((group, group))
    with pytest.raises(RefusedError, match="at least one node group"):
        Cluster(())
    with pytest.raises(RefusedError, match="0 nodes of 8"):
        NodeGroup("g", gpu_by_name("H100"), 0, 8)


@pytest.mark.parametrize("name", gpu_names())
def test_a_group_comes_back_whole_from_json(name: str) -> None:
    # As plan_json writes it: GPU, sources and absent peaks included.
    adapter = TypeAdapter(NodeGroup)
    group = NodeGroup("g", gpu_by_name(name), 2, 4)
    assert adapter.validate_json(adapter.dump_json(group)) == group


@pytest.mark.parametrize("text", ["9999999x8xH100", "1x99999xH100"])
def test_clusters_that_cannot_be_are_refused(text: str) -> None:
    with pytest.raises(RefusedError, match=r"1,000,000 nodes or 1,024 GPUs a node"):
        parse_cluster(text)


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("H100", "1x8xH100,2x4xH100"),
        ("nvidia h100", "1x8xH100,2x4xH100"),
        ("h200", "1x8xH200"),
    ],
)
def test_the_node_groups_of_one_gpu(name: str, label: str) -> None:
    assert parse_cluster("8xH100,8xH200,2x4xH100").of_gpu(name).label == label


@pytest.mark.parametrize("name", ["B200", "8xH100", "my-own-gpu"])
def test_node_groups_of_a_gpu_that_is_not_there_are_refused(name: str) -> None:
    with pytest.raises(RefusedError, match=r"1x8xH100,1x8xH200\. Name one of .*: H100, H200\."):
        parse_cluster("8xH100,8xH200").of_gpu(name)
