"""The rule of thumb: the worked example, other known cases, and what always holds."""

from math import ceil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.model import known_config, model_spec_from_config
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb, instance_sizes, size_by_rule


def rule(billions: float, bits: float, gpu: str, per_node: int = 8) -> RuleOfThumb:
    memory = gpu_by_name(gpu).memory_gb
    return RuleOfThumb(billions, bits, 1.8, gpu, memory, per_node)


def test_the_worked_example() -> None:
    found = rule(671, 8, "B200")
    assert found.vram_gb == pytest.approx(1207.8)
    assert (found.gpus, found.nodes, found.memory_gb(found.gpus)) == (8, 1, 1440)
    assert found.lines == (
        "bytes per parameter = 8 bits / 8 = 1",
        "weights = 671B parameters x 1 = 671.0 GB",
        "VRAM = 671.0 GB x 1.8 (KV allowance) = 1207.8 GB",
        "rounded up to the sizes on offer: 1207.8 GB -> 8 x B200 (8 x 180 GB = 1440 GB)",
        "not 4: 4 x 180 GB = 720 GB leaves no room for KV cache (49.0 GB beside the weights)",
    )


@pytest.mark.parametrize(
    ("billions", "bits", "gpu", "per_node", "gpus", "nodes"),
    [
        (8.03, 16, "H100", 8, 1, 1),  # 28.9 GB
        (8.03, 16, "L4", 4, 2, 1),
        (70.55, 8, "H100", 8, 2, 1),  # 127.0 GB
        (70.55, 16, "H100", 8, 4, 1),  # 254.0 GB
        (70.55, 8, "H200", 8, 1, 1),
        (405.85, 16, "H200", 8, 16, 2),  # 1461.1 GB
        (405.85, 16, "H100", 8, 24, 3),
        (671, 8, "H200", 8, 16, 2),  # 1128 GB a node
        (116.83, 4.25, "H100", 8, 2, 1),
        (0.1345, 16, "logical-cpu", 2, 1, 1),
        (100, 8, "H100", 3, 3, 1),  # 180 GB: 2 hold 160, the node of 3 is on offer
        (200, 8, "H100", 3, 6, 2),
        (44.4, 8, "H100", 8, 1, 1),  # 79.92 GB
        (44.5, 8, "H100", 8, 2, 1),  # 80.1 GB
    ],
)
def test_sizes(
    billions: float, bits: float, gpu: str, per_node: int, gpus: int, nodes: int
) -> None:
    found = rule(billions, bits, gpu, per_node)
    assert (found.gpus, found.nodes) == (gpus, nodes)


@pytest.mark.parametrize(
    ("billions", "gpu", "reason"),
    [
        (671, "H200", "not 8: 8 x 141 GB = 1128 GB leaves 457.0 GB for KV cache of the 536.8 GB"),
        (671, "H100", "not 8: 8 x 80 GB = 640 GB does not hold the weights of 671.0 GB"),
        (70, "H100", "not 1: 1 x 80 GB = 80 GB leaves 10.0 GB for KV cache of the 56.0 GB"),
    ],
)
def test_why_not_the_next_smaller(billions: float, gpu: str, reason: str) -> None:
    assert rule(billions, 8, gpu).lines[-1].startswith(reason)


@pytest.mark.parametrize(
    ("per_node", "sizes"),
    [(1, (1,)), (2, (1, 2)), (3, (1, 2, 3)), (4, (1, 2, 4)), (6, (1, 2, 4, 6)), (8, (1, 2, 4, 8))],
)
def test_instance_sizes(per_node: int, sizes: tuple[int, ...]) -> None:
    assert instance_sizes(per_node) == sizes


def test_a_model_brings_its_nominal_bits() -> None:
    name = "deepseek-ai/DeepSeek-V3.1"
    model = model_spec_from_config(known_config(name) or {}, name)
    found = size_by_rule(model, gpu_by_name("B200"), 8)
    assert (found.bits, f"{found.vram_gb:.1f}", found.gpus) == (8, "1207.8", 8)
    assert size_by_rule(model, gpu_by_name("B200"), 8, kv_allowance=1.0).gpus == 4


@pytest.mark.parametrize("allowance", [0.99, 0, -1, float("nan"), float("inf"), 1e308])
def test_an_allowance_below_the_weights_or_without_end_is_refused(allowance: float) -> None:
    name = "meta-llama/Llama-3.1-8B-Instruct"
    model = model_spec_from_config(known_config(name) or {}, name)
    with pytest.raises(RefusedError, match="KV allowance"):
        size_by_rule(model, gpu_by_name("H100"), 8, kv_allowance=allowance)


@given(
    billions=st.floats(0.01, 5000),
    bits=st.sampled_from([4.0, 4.25, 4.5, 8.0, 16.0, 32.0]),
    memory=st.floats(4, 300),
    per_node=st.integers(1, 16),
)
def test_the_smallest_offered_size_that_holds(
    billions: float, bits: float, memory: float, per_node: int
) -> None:
    found = RuleOfThumb(billions, bits, 1.8, "G", memory, per_node)
    assert found.holds(found.gpus)
    smaller = found.smaller_gpus
    assert smaller is None or not found.holds(smaller)
    if found.gpus > per_node:
        assert found.gpus % per_node == 0
    else:
        assert found.gpus in instance_sizes(per_node)
    assert found.nodes == ceil(found.gpus / per_node)
