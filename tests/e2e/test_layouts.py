"""A split is right when it generates the same tokens: every layout against the unsplit model."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import Deployer

pytestmark = pytest.mark.engine

TOKENS = 32
PROMPTS = (
    "A",
    "The plan",
    "Tokens go in, tokens come out.",
    "A tensor parallel group splits every layer; " * 8,
    "0123456789 " * 40,
)
ENGINE: dict[str, Any] = {"max_model_len": 1024, "dtype": "float32"}

LLAMA = {
    "TP1": {},
    "TP2": {"tp": 2},
    "PP2": {"pp": 2, "across": "nodes"},
    "TP2PP2": {"tp": 2, "pp": 2, "across": "nodes"},
}
MOE = {
    "TP1": {},
    "DP2EP2": {"dp": 2, "ep": 2, "across": "nodes"},
}
# Nodes that the ranks of an instance stand on.
NODES = {"TP1": 1, "TP2": 1, "PP2": 2, "TP2PP2": 2, "DP2EP2": 2}


@pytest.fixture(scope="module")
def tokens_of(deployer: Deployer) -> Any:
    seen: dict[tuple[str, str], list[list[int]]] = {}

    def get(model: str, label: str, layout: dict[str, Any]) -> list[list[int]]:
        if (model, label) not in seen:
            deployer.deploy({"model": model, "layout": layout or "auto", "engine": ENGINE})
            assert_placed_as_planned(deployer, label)
            seen[model, label] = [_tokens(deployer, prompt) for prompt in PROMPTS]
        return seen[model, label]

    return get


def _tokens(deployer: Deployer, prompt: str) -> list[int]:
    # Twice, so that where there are two DP ranks both have answered, and once from cached prefixes.
    answers = [deployer.complete(prompt, TOKENS) for _ in range(2)]
    lists = [answer.raise_for_status().json()["choices"][0]["token_ids"] for answer in answers]
    assert lists[0] == lists[1]
    assert len(lists[0]) == TOKENS
    return list(lists[0])


def assert_placed_as_planned(deployer: Deployer, label: str) -> None:
    seen = deployer.observe()
    [instance] = seen.instances
    assert instance.layout.label == label
    assert len(instance.ranks) == instance.layout.gpus
    assert len({rank.node_id for rank in instance.ranks}) == NODES[label]
    assert len({(rank.node_id, rank.gpu) for rank in instance.ranks}) == instance.layout.gpus
    for group in range(instance.layout.tp_groups):
        nodes = {rank.node_id for rank in instance.ranks if rank.bundle == group}
        assert len(nodes) == 1, f"TP group {group} spans nodes {nodes}"


@pytest.mark.parametrize("label", [label for label in LLAMA if label != "TP1"])
def test_llama_layouts_generate_the_same_tokens(tokens_of: Any, label: str) -> None:
    assert tokens_of("tiny-llama", label, LLAMA[label]) == tokens_of("tiny-llama", "TP1", {})


def test_expert_parallelism_generates_the_same_tokens(tokens_of: Any) -> None:
    split = tokens_of("tiny-moe", "DP2EP2", MOE["DP2EP2"])
    assert split == tokens_of("tiny-moe", "TP1", {})


def test_the_tokens_depend_on_the_prompt(tokens_of: Any) -> None:
    lists = tokens_of("tiny-llama", "TP1", {})
    assert len({tuple(tokens) for tokens in lists}) == len(PROMPTS)
    assert all(len(set(tokens)) > TOKENS // 4 for tokens in lists), "degenerate repetition"
