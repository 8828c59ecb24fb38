"""Which modules a list of names, globs and regexes covers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.model.quantisation.patterns import NO_NAMES, NamePatterns, canonical

Q = "model.layers.4.self_attn.q_proj"
EXPERT = "model.layers.4.mlp.experts.0.down_proj"


def covers(entry: str, module: str) -> bool:
    return NamePatterns.of([entry], "m").match(module)


@pytest.mark.parametrize(
    ("entry", "module", "covered"),
    [
        # Names: the module, its ancestors, never a part of a word or of a number.
        (Q, Q, True),
        ("model.layers.4.self_attn", Q, True),
        ("model.layers.4", Q, True),
        ("model.layers.40", Q, False),
        ("model.layers.4.self_attn.q", Q, False),
        ("model.layers.4.self_attn.q_proj.weight", Q, False),
        ("self_attn", Q, True),
        ("attn", "model.layers.4.linear_attn.out_proj", False),
        ("gate", "model.layers.4.mlp.gate", True),
        ("gate", "model.layers.4.mlp.gate_proj", False),
        ("mlp.gate.", "model.layers.4.mlp.gate", True),
        ("mlp.down_proj", "model.layers.4.mlp.down_proj", True),
        ("mlp.down_proj", "model.layers.4.mlp.shared_experts.down_proj", False),
        ("lm_head", "lm_head", True),
        ("lm_head", Q, False),
        # Wrappers around the language model, and other names of the same part.
        ("language_model.model.layers.4.self_attn", Q, True),
        ("model.language_model.layers.4.self_attn", Q, True),
        ("layers.4.attn", Q, True),
        ("model.layers.4.self_attn", "model.language_model.layers.4.self_attn.q_proj", True),
        ("language_model.lm_head", "lm_head", True),
        ("head", "lm_head", True),
        ("backbone.embeddings", "model.embed_tokens", True),
        ("model.layers.4.block_sparse_moe.gate", "model.layers.4.mlp.gate", True),
        ("model.layers.4.feed_forward", EXPERT, True),
        ("model.layers.4.mlp.shared_expert", "model.layers.4.mlp.shared_experts.up_proj", True),
        ("model.layers.4.mlp.shared_expert", "model.layers.4.mlp.shared_expert_gate", False),
        ("backbone.layers.5.mixer.q_proj", "backbone.layers.5.mixer.q_proj", True),
        ("backbone.layers.5.mixer.q_proj", "model.layers.5.self_attn.q_proj", True),
        ("backbone.layers.4.mixer.in_proj", "model.layers.4.mamba.in_proj", True),
        # A name with a layer's number is counted from the root: not the draft's layer 4.
        ("model.layers.4", "mtp.layers.4.self_attn.q_proj", False),
        # Fused projections stand for their parts, and parts for the whole.
        ("model.layers.4.self_attn.qkv_proj", Q, True),
        ("model.layers.4.self_attn.qkv_proj", "model.layers.4.self_attn.o_proj", False),
        ("model.layers.4.mlp.gate_up_proj", "model.layers.4.mlp.up_proj", True),
        ("layers.4.linear_attn.in_proj_ba", "layers.4.linear_attn.in_proj_a", True),
        ("layers.4.linear_attn.in_proj_z", "layers.4.linear_attn.in_proj_qkvz", True),
        # Expert 0 stands for all experts.
        ("model.layers.4.mlp.experts", EXPERT, True),
        ("model.layers.4.mlp.experts.0.down_proj", EXPERT, True),
        ("model.layers.4.mlp.experts.*.down_proj", EXPERT, True),
        ("model.layers.4.mlp.experts.down_proj", EXPERT, True),
        ("model.layers.4.block_sparse_moe.experts.0.w2", EXPERT, True),
        ("model.layers.4.block_sparse_moe.experts.0.w1", EXPERT, False),
        ("model.layers.4.mlp.experts.17.down_proj", EXPERT, False),
        # Globs.
        ("model.layers.4*", Q, True),
        ("model.layers.4.*", Q, True),
        ("model.layers.4*", "model.layers.40.self_attn.q_proj", False),
        ("model.layers.4.self_attn*", Q, True),
        ("model.layers.*.self_attn", Q, True),
        ("model.layers.*.mlp.router", "model.layers.4.mlp.router", True),
        ("*.attn.*", Q, True),
        ("*.mlp.shared_expert.*", "model.layers.4.mlp.shared_experts.up_proj", True),
        ("*self_attn*", Q, True),
        ("*_attn.q_proj", Q, True),
        ("model.layers.[0-3].*", Q, False),
        ("model.layers.[0-4].*", Q, True),
        ("mtp*", "mtp.layers.0.self_attn.q_proj", True),
        ("mtp*", Q, False),
        ("vision_tower*", "vision_tower.blocks.0.qkv", True),
        # Regexes, matched from the start.
        ("re:.*self_attn.*", Q, True),
        ("re:self_attn", Q, False),
        ("re:model\\.layers\\.4\\..*", "language_model.model.layers.4.self_attn.q_proj", True),
        ("re:language_model\\.model\\.layers\\.4\\..*", Q, True),
        ("re:.*mlp\\.(gate|up|gate_up|down)_proj.*", "model.layers.0.mlp.up_proj", True),
        ("re:.*mlp\\.(gate|up|gate_up|down)_proj.*", EXPERT, False),
    ],
)
def test_an_entry_covers(entry: str, module: str, covered: bool) -> None:
    assert covers(entry, module) is covered


def test_an_empty_list_covers_nothing() -> None:
    assert not NO_NAMES.match(Q)
    assert not NamePatterns.of([], "m").match(Q)


def test_a_broken_regex_is_refused_with_its_text() -> None:
    with pytest.raises(RefusedError, match=r"m: the quantisation config's pattern '\(x' is no"):
        NamePatterns.of(["re:(x"], "m")


NAMES = st.lists(
    st.sampled_from(["mlp", "self_attn", "q_proj", "gate", "norm", "head", "w1"]),
    min_size=1,
    max_size=4,
)


@given(layer=st.integers(0, 200), tail=NAMES, cut=st.integers(1, 4))
def test_every_ancestor_covers_a_module_in_every_spelling(
    layer: int, tail: list[str], cut: int
) -> None:
    module = ".".join(["model.layers", str(layer), *tail])
    ancestor = ".".join(["model.layers", str(layer), *tail[:cut]])
    for prefix in ("", "language_model.", "module."):
        assert covers(prefix + ancestor, module)
    assert not covers(ancestor, module.replace(f".{layer}.", f".{layer + 1}."))


@given(tail=NAMES)
def test_the_canonical_name_is_its_own_canonical_name(tail: list[str]) -> None:
    name = canonical(".".join(["model", "layers", "3", *tail]))
    assert canonical(name) == name
