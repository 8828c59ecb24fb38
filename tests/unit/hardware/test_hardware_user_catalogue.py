"""GPUs and clusters that users describe in YAML."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import (
    Gpu,
    catalogue_from_mapping,
    cluster_from_mapping,
    gpu_by_name,
    gpu_names,
    parse_cluster,
    shipped_catalogue,
)

PAGE = Path(__file__).resolve().parents[3] / "docs" / "hardware.md"
NEW = """
Made-1:
  memory_gb: 100
  usable_gib: 92
  hbm_gb_per_second: 3000
  bf16_tflops: 500
  nvlink: true
  nvlink_domain_gpus: 16
  link_gb_per_second: 200
  gpus_per_node: 8
  nic_gb_per_second: 50
"""


def user_gpu(text: str, name: str) -> Gpu:
    return catalogue_from_mapping(yaml.safe_load(text)).gpu(name)


def test_an_override_keeps_what_it_does_not_say() -> None:
    before = gpu_by_name("H100")
    after = user_gpu("h100_sxm: {price_per_hour_usd: 2.1, hbm_gb_per_second: 3000}", "H100")
    assert (after.price_per_hour_usd, after.hbm_bytes_per_second) == (2.1, 3e12)
    assert (after.name, after.bf16_flops) == ("H100", before.bf16_flops)
    assert after.source_of("price_per_hour_usd") == after.source == "user"
    assert after.source_of("bf16_flops") == before.source_of("bf16_flops")


def test_the_shipped_catalogue_stays_as_it_is() -> None:
    catalogue_from_mapping({"H100": {"usable_gib": 70}})
    assert gpu_by_name("H100").usable_gib == 79.18


def test_a_value_and_an_entry_may_name_their_source() -> None:
    gpu = user_gpu(
        "H200: {source: our lab, nvlink: false, usable_gib: {value: 138, source: torch}}", "H200"
    )
    assert gpu.source_of("usable_gib") == "torch"
    assert gpu.source_of("nvlink") == gpu.source == "our lab"
    assert gpu.usable_gib == 138


def test_a_new_gpu_on_a_base_and_one_on_that() -> None:
    catalogue = catalogue_from_mapping(
        yaml.safe_load("Big: {base: h200, memory_gb: 200}\nBigger: {base: Big, usable_gib: 190}")
    )
    assert catalogue.names == (*gpu_names(), "Big", "Bigger")
    bigger = catalogue.gpu("bigger")
    assert (bigger.memory_gb, bigger.usable_gib) == (200, 190)
    assert bigger.bf16_flops == gpu_by_name("H200").bf16_flops
    assert parse_cluster("2x8xBigger", catalogue).node_groups[0].gpu is bigger


def test_a_new_gpu_whole() -> None:
    gpu = user_gpu(NEW, "made-1")
    assert gpu.link_bytes_per_second == 200e9
    assert (gpu.fp8_flops, gpu.fp4_flops, gpu.price_per_hour_usd) == (None, None, None)
    assert gpu.engine_backend == "cuda"
    assert gpu.peak_flops(4) == 500e12


def test_nothing_is_changed_by_an_empty_mapping() -> None:
    assert catalogue_from_mapping({}) == shipped_catalogue()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("H100: {usable_gb: 79}", "'usable_gb' is not known. Nearest: usable_gib"),
        ("H100: {zzz: 79}", r"'zzz' is not known. Known: base, source, generation"),
        ("H100: {usable_gib: many}", "usable_gib must be a number, found 'many'"),
        ("H100: {usable_gib: true}", "usable_gib must be a number, found True"),
        ("H100: {usable_gib: .inf}", "usable_gib must be a number, found inf"),
        ("H100: {usable_gib: 0}", r"0 GiB usable\) must be above 0"),
        ("H100: {usable_gib:}", "usable_gib must be a number, found None"),
        ("H100: {bf16_tflops: 1e3}", "found '1e3'. YAML reads it as text: write 1000"),
        ("H100: {fp4_tflops: no}", "fp4_tflops must be a number or nothing, found False"),
        ("H100: {nvlink: 1}", "nvlink must be true or false, found 1"),
        ("H100: {gpus_per_node: 7.5}", "gpus_per_node must be a whole number, found 7.5"),
        ("H100: {engine_backend: tpu}", "'tpu' is not one of cuda, rocm, cpu"),
        ("H100: {usable_gib: {valu: 79}}", "'valu' is not known. Nearest: value"),
        ("H100: {usable_gib: {source: me}}", "lacks its value"),
        ("H100: {usable_gib: {value: 79, source: 3}}", "source must be text, found 3"),
        ("H100: {source: 3}", "source must be text, found 3"),
        ("H100: 79", "GPU H100: keys with values are wanted, found 79"),
        ("H100:", "keys with values are wanted, found None"),
        ("- H100", r"gpus: keys with values are wanted, found \['H100'\]"),
        ("300: {base: H100}", "300 is not a GPU's name"),
        ("2xH100: {base: H100}", "'2xH100' is not a GPU's name"),
        ("Mine: {base: H10}", "'H10' is not known. Nearest: .*H100"),
        ("Mine: {base: 3}", "base must be text, found 3"),
        ("Mine: {memory_gb: 80}", "is new and lacks usable_gib, hbm_gb_per_second, .*base: H100"),
        ("A100: {usable_gib: 39}", "Write A100-40 or A100-80"),
    ],
)
def test_refused_gpus(text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        catalogue_from_mapping(yaml.safe_load(text))


def test_two_kinds_of_nodes_are_one_cluster() -> None:
    cluster = cluster_from_mapping(
        yaml.safe_load("node_groups: [{gpu: H100, nodes: 3}, {gpu: L40S, nodes: 2}]")
    )
    assert cluster == parse_cluster("3x8xH100,2x4xL40S")


def test_what_a_group_says_holds_for_it_alone() -> None:
    first, second, third = cluster_from_mapping(
        yaml.safe_load(
            """
            gpus: {H100: {price_per_hour_usd: 3}, Odd: {base: H200, usable_gib: 130}}
            node_groups:
              - {gpu: h100, nodes: 1, nic_gb_per_second: 100, usable_gib: 78}
              - {gpu: H100, nodes: 2, gpus_per_node: 4, price_per_hour_usd: 1.5}
              - {name: own, gpu: Odd, nodes: 1, nvlink_domain_gpus: 4}
            """
        )
    ).node_groups
    assert [group.name for group in (first, second, third)] == ["h100", "h100-2", "own"]
    assert (first.gpu.nic_bytes_per_second, first.gpu.usable_gib) == (100e9, 78)
    assert first.gpu.price_per_hour_usd == 3
    assert (second.gpu.nic_bytes_per_second, second.gpu.usable_gib) == (50e9, 79.18)
    assert (second.gpu.price_per_hour_usd, second.gpus_per_node) == (1.5, 4)
    assert second.gpu.source_of("price_per_hour_usd") == "user"
    assert (third.gpu.usable_gib, third.tp_limit) == (130, 4)


@pytest.mark.parametrize(
    ("text", "limit"),
    [
        ("{gpu: GB200, nodes: 18}", 72),
        ("{gpu: GB200, nodes: 18, nvlink_domain_gpus: 4}", 4),
        ("{gpu: GB200, nodes: 18, nvlink_domain_gpus: 36}", 36),
        ("{gpu: H100-PCIe, nodes: 2, nvlink: false, nvlink_domain_gpus: 8}", 8),
    ],
)
def test_the_domain_of_a_group(text: str, limit: int) -> None:
    cluster = cluster_from_mapping({"node_groups": [yaml.safe_load(text)]})
    assert cluster.node_groups[0].tp_limit == limit


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{}", "node_groups must be a list with at least one group, found None"),
        ("node_groups: []", r"found \[\]"),
        ("node_groups: {gpu: H100}", "must be a list"),
        ("groups: []", "'groups' is not known. Nearest: node_groups"),
        ("[]", r"cluster: keys with values are wanted, found \[\]"),
        ("node_groups: [3xH100]", "node group 1: keys with values are wanted, found '3xH100'"),
        ("node_groups: [{gpu: H100}]", "node group 1: lacks nodes"),
        ("node_groups: [{}]", "node group 1: lacks gpu and nodes"),
        ("node_groups: [{gpu: H100, nodes: 0}]", "nodes must be a whole number above 0, found 0"),
        ("node_groups: [{gpu: H100, nodes: two}]", "nodes must be a whole number"),
        ("node_groups: [{gpu: H100, nodes: true}]", "nodes must be .* found True"),
        ("node_groups: [{gpu: H100, nodes: 1, gpus_per_node: 0}]", "gpus_per_node must be"),
        ("node_groups: [{gpu: H100, nodes: 1, gpu_per_node: 8}]", "Nearest: gpus_per_node"),
        ("node_groups: [{gpu: H101, nodes: 1}]", "GPU 'H101' is not known. Nearest: .*H100"),
        ("node_groups: [{gpu: 100, nodes: 1}]", "gpu must be text, found 100"),
        ("node_groups: [{gpu: H100, name: 1, nodes: 1}]", "name must be text, found 1"),
        ("node_groups: [{gpu: H100, nodes: 1, usable_gib: x}]", "usable_gib must be a number"),
        (
            "node_groups: [{gpu: H100, nodes: 1, name: a}, {gpu: L4, nodes: 1, name: a}]",
            "same name: a",
        ),
        ("{node_groups: [{gpu: H100, nodes: 1}], gpus: [H100]}", "gpus: keys with values"),
    ],
)
def test_refused_clusters(text: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        cluster_from_mapping(yaml.safe_load(text))


def test_the_examples_of_the_page_are_read() -> None:
    blocks: list[dict[str, Any]] = [
        yaml.safe_load(block)
        for block in re.findall(r"```yaml\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    ]
    own, cluster = blocks
    assert catalogue_from_mapping(own["gpus"]).gpu("H100-unbridged").nvlink is False
    assert cluster_from_mapping(cluster).label == "3x8xH100,2x4xL40S,18x4xGB200"
