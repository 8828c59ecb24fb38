"""What holds for every model on every cluster."""

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from planning_cases import MODELS, dense_model, moe_model

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import Cluster, NodeGroup, gpu_by_name, gpu_names
from rayserve_par.model import ModelSpec
from rayserve_par.planning import (
    LayoutRequest,
    Plan,
    Target,
    illegal,
    plan,
    plan_from_json,
    plan_to_json,
)
from rayserve_par.sizing.rule_of_thumb import instance_sizes


@st.composite
def small_models(draw: st.DrawFn) -> ModelSpec:
    heads = draw(st.sampled_from([6, 8, 9, 12, 16, 40, 64]))
    kv_heads = draw(st.sampled_from([n for n in (1, 2, 3, 4, 8, heads) if heads % n == 0]))
    changes: dict[str, Any] = {
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": draw(st.sampled_from([64, 128])),
        "hidden_size": draw(st.sampled_from([2048, 4096, 8192])),
        "intermediate_size": draw(st.sampled_from([5632, 14336, 28672])),
        "num_hidden_layers": draw(st.integers(2, 96)),
        "tie_word_embeddings": draw(st.booleans()),
        "max_position_embeddings": draw(st.sampled_from([1024, 8192, 131072])),
    }
    quant = draw(
        st.sampled_from(
            [
                None,
                {"quant_method": "fp8", "weight_block_size": [128, 128]},
                {"quant_method": "fp8"},
            ]
        )
    )
    if quant:
        changes["quantization_config"] = quant
    if draw(st.booleans()):
        changes["num_experts"] = draw(st.sampled_from([8, 18, 60, 128]))
        changes["moe_intermediate_size"] = draw(st.sampled_from([768, 1536, 2048]))
        return moe_model(**changes)
    return dense_model(**changes)


models = st.one_of(st.sampled_from(sorted(MODELS)).map(MODELS.__getitem__), small_models())
groups = st.builds(
    lambda gpu, nodes, size: NodeGroup(gpu.lower(), gpu_by_name(gpu), nodes, size),
    st.sampled_from(gpu_names()),
    st.integers(1, 12),
    st.integers(1, 9),
)
targets = st.sampled_from(Target)
lengths = st.sampled_from([None, 512, 8192, 65536])


def try_plan(model: ModelSpec, cluster: Cluster, **asked: Any) -> Plan | None:
    try:
        return plan(model, cluster, **asked)
    except RefusedError:
        return None


@settings(max_examples=300, deadline=None)
@given(models, groups, targets, lengths, st.integers(1, 40))
def test_more_nodes_never_widen_an_instance_nor_lose_one(
    model: ModelSpec, group: NodeGroup, target: Target, length: int | None, more: int
) -> None:
    asked = {"target": target, "max_model_len": length}
    before = try_plan(model, Cluster((group,)), **asked)
    larger = NodeGroup(group.name, group.gpu, group.nodes + more, group.gpus_per_node)
    after = try_plan(model, Cluster((larger,)), **asked)
    if before is None:
        return
    assert after is not None
    assert after.layout == before.layout
    assert after.instances >= before.instances


@settings(max_examples=300, deadline=None)
@given(models, groups, targets, lengths)
def test_a_chosen_plan_is_legal_fits_and_round_trips(
    model: ModelSpec, group: NodeGroup, target: Target, length: int | None
) -> None:
    found = try_plan(model, Cluster((group,)), target=target, max_model_len=length)
    if found is None:
        return
    layout, memory = found.layout, found.memory
    assert illegal(model, layout, group) == ()
    assert layout.tp <= min(group.gpus_per_node, group.gpu.nvlink_domain_gpus)
    tokens = length or min(2048, model.max_context_tokens)
    assert memory.needed_bytes(tokens) <= memory.budget_bytes <= group.gpu.usable_bytes
    assert found.sizing.holds(layout.gpus)
    assert 1 <= found.instances * layout.gpus <= group.gpus
    assert found.nodes_per_instance <= group.nodes
    if layout.gpus <= group.gpus_per_node:
        assert layout.gpus in instance_sizes(group.gpus_per_node)
    for refused in found.refused:
        assert refused.reasons
        assert refused.layout != layout
    assert plan_from_json(plan_to_json(found)) == found


@settings(max_examples=200, deadline=None)
@given(models, groups, targets, lengths)
def test_asking_for_what_auto_takes_gives_the_same_layout(
    model: ModelSpec, group: NodeGroup, target: Target, length: int | None
) -> None:
    cluster = Cluster((group,))
    auto = try_plan(model, cluster, target=target, max_model_len=length)
    if auto is None:
        return
    layout = auto.layout
    request = LayoutRequest(tp=layout.tp, pp=layout.pp, dp=layout.dp, ep=layout.ep)
    again = plan(model, cluster, target=target, max_model_len=length, request=request)
    assert (again.layout, again.instances) == (layout, auto.instances)
    assert (again.across_nodes, again.nodes_per_instance) == (
        auto.across_nodes,
        auto.nodes_per_instance,
    )
    assert again.auto == layout


@settings(max_examples=200, deadline=None)
@given(
    models,
    groups,
    st.integers(1, 9),
    st.integers(1, 9),
    st.integers(1, 4),
    st.booleans(),
    st.sampled_from(["auto", "nodes"]),
)
def test_an_explicit_layout_is_obeyed_or_refused(
    model: ModelSpec, group: NodeGroup, tp: int, pp: int, dp: int, spread: bool, across: Any
) -> None:
    request = LayoutRequest(tp, pp, dp, tp * dp if spread else 1, across)
    found = try_plan(model, Cluster((group,)), request=request)
    if found is None:
        return
    assert found.layout == request.layout
    assert illegal(model, found.layout, group) == ()
    assert found.memory.needed_bytes(min(2048, model.max_context_tokens)) <= (
        found.memory.budget_bytes
    )
    assert found.gpus <= group.gpus
    if across == "nodes" and found.layout.tp_groups > 1:
        assert found.across_nodes
        assert found.nodes_per_instance == found.layout.tp_groups <= group.nodes


@settings(max_examples=150, deadline=None)
@given(models, st.lists(groups, min_size=2, max_size=3, unique_by=lambda group: group.name))
def test_several_groups_give_the_best_of_each(model: ModelSpec, several: list[NodeGroup]) -> None:
    alone = [try_plan(model, Cluster((group,))) for group in several]
    sizes = [found.layout.gpus for found in alone if found is not None]
    together = try_plan(model, Cluster(tuple(several)))
    assert (together is None) == (not sizes)
    if together is not None:
        assert together.layout.gpus == min(sizes)
