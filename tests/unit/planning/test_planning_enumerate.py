"""Which layouts are proposed on which nodes, and which are refused there."""

import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import (
    DEEPSEEK,
    GPT_OSS,
    LLAMA_8B,
    LLAMA_405B,
    MODELS,
    QWEN,
    dense_model,
    group,
    moe_model,
)
from published_models import published, published_names

from rayserve_par.hardware import NodeGroup, gpu_names, parse_cluster
from rayserve_par.planning import Layout, illegal
from rayserve_par.planning.enumerate import enumerate_layouts
from rayserve_par.planning.spread import spread_of


def labels(name: str, nodes: NodeGroup, **asked: Any) -> list[str]:
    return [layout.label for layout in enumerate_layouts(MODELS[name], nodes, **asked).legal]


@pytest.mark.parametrize(
    ("name", "nodes", "asked", "expected"),
    [
        (LLAMA_8B, group("H200", gpus_per_node=1), {}, ["TP1"]),
        (LLAMA_8B, group("H200", gpus_per_node=2), {}, ["TP1", "PP2", "TP2"]),
        (LLAMA_8B, group("H200"), {"max_gpus_per_instance": 2}, ["TP1", "PP2", "TP2"]),
        (
            LLAMA_8B,
            group("L40S"),
            {"min_gpus": 3},
            ["PP3", "PP4", "TP2PP2", "TP4"],
        ),
        (
            LLAMA_405B,
            group("H200", nodes=2),
            {"min_gpus": 9},
            ["PP16", "TP2PP8", "TP4PP4", "TP8PP2"],
        ),
        (QWEN, group("H200", gpus_per_node=2), {}, ["TP1", "DP2EP2", "PP2", "TP2", "TP2EP2"]),
        (
            QWEN,
            group("H200"),
            {"min_gpus": 8},
            [
                "DP8EP8",
                "PP8",
                "TP2DP4EP8",
                "TP2PP4",
                "TP2PP4EP2",
                "TP4DP2EP8",
                "TP4PP2",
                "TP4PP2EP4",
                "TP8EP8",
            ],
        ),
        (DEEPSEEK, group("H200"), {"min_gpus": 9}, []),
    ],
)
def test_legal(name: str, nodes: NodeGroup, asked: dict[str, Any], expected: list[str]) -> None:
    assert labels(name, nodes, **asked) == expected


@pytest.mark.parametrize(
    ("name", "nodes", "wanted"),
    [
        (LLAMA_405B, group("H200", nodes=3), ["TP8PP2", "TP8PP3"]),
        (DEEPSEEK, group("H200", nodes=4), ["TP8DP2EP16", "DP16EP16", "TP8PP2", "TP8PP2EP8"]),
        (DEEPSEEK, group("H200", nodes=4), ["TP8PP2DP2EP16"]),
        (DEEPSEEK, group("GB200", nodes=18), ["TP16EP16", "DP64EP64", "TP8DP4EP32"]),
        (GPT_OSS, group("GB200", nodes=18), ["TP8", "TP4EP4"]),
        (LLAMA_8B, group("H100-NVL"), ["TP2", "PP8", "TP2PP4"]),
    ],
)
def test_among_the_legal(name: str, nodes: NodeGroup, wanted: list[str]) -> None:
    assert set(wanted) <= set(labels(name, nodes))


@pytest.mark.parametrize(
    ("name", "nodes", "asked", "layout", "reason"),
    [
        (
            QWEN,
            group("H200"),
            {},
            "TP8",
            "routed_experts (gate_proj): 1536 / TP 8 = 192 is not a multiple of the "
            "fp8-block128 block of 128: 192 / 128 = 1.5",
        ),
        (LLAMA_8B, group("H200", nodes=2), {}, "TP16", "TP 16 exceeds a node's 8 x H200: 16 > 8"),
        (
            LLAMA_8B,
            group("H100-NVL"),
            {},
            "TP4",
            "TP 4 exceeds the NVLink domain of H100-NVL: 4 > 2 GPUs",
        ),
        (
            LLAMA_405B,
            group("H200", nodes=2),
            {"min_gpus": 6},
            "TP4",
            "an instance of fewer than 6 GPUs cannot hold the model's weights: 4 < 6",
        ),
        (
            DEEPSEEK,
            group("H200", nodes=3),
            {},
            "DP24EP24",
            "256 experts are not divisible by EP 24: 256 / 24 = 10.67",
        ),
    ],
)
def test_refused(
    name: str, nodes: NodeGroup, asked: dict[str, Any], layout: str, reason: str
) -> None:
    found = enumerate_layouts(MODELS[name], nodes, **asked)
    assert (layout, (reason,)) in [(one.layout.label, one.reasons) for one in found.refused]


def test_what_fits_twelve_gpus_takes_stages_or_sixteen() -> None:
    model = moe_model(num_attention_heads=64, hidden_size=8192, vocab_size=248320)
    found = enumerate_layouts(model, group("GB300", nodes=18), min_gpus=12)
    assert {Layout(tp=4, pp=3), Layout(tp=16)} <= set(found.legal)
    assert Layout(tp=12) not in found.legal
    (reasons,) = [one.reasons for one in found.refused if one.layout == Layout(tp=12)]
    assert reasons[0] == "64 attention heads are not divisible by TP 12: 64 / 12 = 5.33"
    assert min(layout.gpus for layout in found.legal) == 12


def test_every_group_of_a_mixed_cluster_has_its_own_layouts() -> None:
    first, second = parse_cluster("3x8xH100,2x4xL40S").node_groups
    model = MODELS[LLAMA_8B]
    assert max(layout.gpus for layout in enumerate_layouts(model, first).legal) == 24
    assert max(layout.gpus for layout in enumerate_layouts(model, second).legal) == 8


def test_other_engines_have_more_expert_groups() -> None:
    model, nodes = MODELS[DEEPSEEK], group("H200")
    vllm = set(enumerate_layouts(model, nodes).legal)
    others = set(enumerate_layouts(model, nodes, engine="sglang").legal)
    assert vllm < others
    assert {Layout(tp=8, ep=4), Layout(tp=1, dp=8, ep=1)} <= others - vllm


def test_whole_tp_groups_must_fit_what_is_left_of_each_domain() -> None:
    # 20 nodes are one domain of 18 and two nodes: four TP groups of 20 GPUs would need the rest.
    model = dense_model(
        num_attention_heads=20,
        num_key_value_heads=20,
        head_dim=64,
        intermediate_size=5120,
        num_hidden_layers=64,
    )
    found = enumerate_layouts(model, group("GB300", nodes=20), min_gpus=80)
    assert Layout(tp=20, pp=4) not in found.legal
    (reason,) = [one.reasons[0] for one in found.refused if one.layout == Layout(tp=20, pp=4)]
    assert reason.endswith("floor(2 nodes / 5) = 0: 3 TP groups, / 4 per instance = 0")


@pytest.mark.parametrize("name", published_names())
def test_ten_thousand_gpus_do_not_explode(name: str) -> None:
    for gpu, nodes in (("H200", 1250), ("GB300", 2500)):
        found = enumerate_layouts(published(name), group(gpu, nodes=nodes))
        assert 0 < len(found.legal) <= 200
        assert len(found.refused) <= 40
        assert found.legal[0] == Layout()


@settings(max_examples=150)
@given(
    st.sampled_from(sorted(MODELS)),
    st.sampled_from(gpu_names()),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from([None, 1, 7, 16, 100]),
    st.sampled_from(["vllm", "sglang"]),
)
def test_what_always_holds(
    name: str, gpu: str, nodes: int, least: int, most: int | None, engine: str
) -> None:
    model, here = MODELS[name], group(gpu, nodes=nodes)
    found = enumerate_layouts(
        model, here, engine=engine, min_gpus=least, max_gpus_per_instance=most
    )
    assert len(set(found.legal)) == len(found.legal)
    for layout in found.legal:
        assert illegal(model, layout, here, engine=engine) == ()
        assert least <= layout.gpus <= min(here.gpus, most or here.gpus)
        assert layout.tp <= here.gpu.nvlink_domain_gpus
        spread = spread_of(layout, here, "auto")
        assert spread.instances >= 1
        assert spread.instances * layout.gpus <= here.gpus
    for one in found.refused:
        assert one.layout not in found.legal
        assert one.reasons
        assert all(re.search(r"\d", reason) for reason in one.reasons)
    wider = enumerate_layouts(
        model,
        group(gpu, nodes=nodes + 1),
        engine=engine,
        min_gpus=least,
        max_gpus_per_instance=most,
    )
    assert set(found.legal) <= set(wider.legal)
