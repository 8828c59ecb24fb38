"""Activations by hand, and the parts of the reserve by engine version."""

import pytest
from sizing_cases import DEEPSEEK, GPT_OSS, LLAMA_8B, QWEN, shared_model

from rayserve_par.hardware import GIB, gpu_by_name
from rayserve_par.sizing import EngineOptions, RankSplit
from rayserve_par.sizing.activations import (
    Batch,
    encoder_bytes,
    exchange_bytes,
    forward_bytes,
    mla_context_bytes,
    sampling_bytes,
)
from rayserve_par.sizing.reserve import stage_reserves

H100 = gpu_by_name("H100")
BATCH = Batch(8192, 1024, 8192)


@pytest.mark.parametrize(
    ("tp", "values"),
    [
        (1, 4 * 4096 + 3 * 14336),
        (2, 4 * 4096 + 3 * 14336 // 2),
        (8, 4 * 4096 + 3 * 14336 // 8),
    ],
)
def test_forward_of_a_dense_model_by_hand(tp: int, values: int) -> None:
    assert forward_bytes(LLAMA_8B, RankSplit(tp=tp), BATCH) == 8192 * values * 2


@pytest.mark.parametrize(
    ("split", "tokens", "inner"),
    [
        # 8 of 128 experts, each 1536 wide: the first workspace is as wide as the hidden vector.
        (RankSplit(tp=4), 8192, 1536 // 4),
        (RankSplit(tp=4, ep=4), 8192, 1536),
        (RankSplit(dp=4, ep=4), 4 * 8192, 1536),
    ],
)
def test_forward_of_experts_by_hand(split: RankSplit, tokens: int, inner: int) -> None:
    routed = tokens * 8 * (4096 + inner) * 2
    assert forward_bytes(QWEN, split, BATCH) == 8192 * 4 * 4096 * 2 + routed
    gathered = 2 * tokens * 4096 * 2 if split.dp > 1 else 0
    assert exchange_bytes(QWEN, split, 8192) == gathered


def test_mla_context_by_hand() -> None:
    layer = DEEPSEEK.layers[0]
    assert mla_context_bytes(layer, RankSplit(tp=8), BATCH) == 65536 * 16 * 256 * 2
    short = Batch(8192, 16, 1024)
    assert mla_context_bytes(layer, RankSplit(), short) == 8 * 1024 * 128 * 256 * 2
    assert mla_context_bytes(LLAMA_8B.layers[0], RankSplit(), BATCH) == 0
    sparse = shared_model("deepseek-ai/DeepSeek-V3.2").layers[0]
    assert mla_context_bytes(sparse, RankSplit(), BATCH) == 0


def test_sampling_by_hand() -> None:
    logits = 1024 * 128256 * 4
    assert sampling_bytes(LLAMA_8B, BATCH, 9.5) == 8192 * 4096 * 2 + 9.5 * logits


def test_only_a_tower_has_an_encoder() -> None:
    assert encoder_bytes(LLAMA_8B, RankSplit(), BATCH) == 0
    tower = shared_model("Qwen/Qwen3-VL-8B-Instruct")
    one, two = (encoder_bytes(tower, RankSplit(tp=tp), BATCH) for tp in (1, 2))
    assert 0.4 * GIB < two < one < 2 * GIB


@pytest.mark.parametrize(
    ("version", "tp", "runtime", "collectives", "graphs"),
    [
        ((0, 11), 1, 0.175, 0.0, 0.0),
        ((0, 11), 2, 0.175, 0.4, 0.0),
        ((0, 11), 8, 0.175, 1.2, 0.0),
        ((0, 19), 8, 0.175, 0.0, 0.0),
        ((0, 25), 2, 0.95, 0.0, 0.0),
        ((0, 32), 2, 0.95, 0.0, 0.1 + 102 / 128),
    ],
)
def test_fixed_parts_by_version(
    version: tuple[int, int], tp: int, runtime: float, collectives: float, graphs: float
) -> None:
    options = EngineOptions(version=version)
    (found,) = stage_reserves(LLAMA_8B, H100, RankSplit(tp=tp), options)
    assert found.runtime_bytes / GIB == pytest.approx(runtime)
    assert found.collective_bytes / GIB == pytest.approx(collectives)
    assert found.graph_bytes / GIB == pytest.approx(graphs)
    counters = 1024 * 128256 * 33 / 8 if version >= (0, 25) else 0
    assert found.counter_bytes == counters
    fixed = found.runtime_bytes + found.collective_bytes + found.graph_bytes
    assert found.total_bytes == pytest.approx(found.activation_bytes + counters + fixed)


def test_only_the_last_stage_samples_and_the_first_encodes() -> None:
    model = shared_model("Qwen/Qwen3-VL-8B-Instruct")
    found = stage_reserves(model, H100, RankSplit(pp=3), EngineOptions())
    assert [one.sampling_bytes > 0 for one in found] == [False, False, True]
    assert [one.encoder_bytes > 0 for one in found] == [True, False, False]


def test_lines_name_what_decides() -> None:
    (sorts,) = stage_reserves(GPT_OSS, H100, RankSplit(), EngineOptions(version=(0, 11)))
    assert "\n".join(sorts.lines()).splitlines()[0].endswith(": sampling")
    (later,) = stage_reserves(LLAMA_8B, H100, RankSplit(), EngineOptions(max_num_seqs=128))
    text = "\n".join(later.lines())
    assert "a pass over the layers" in text.splitlines()[0].rsplit(":", 1)[1]
    assert "CUDA graphs = 0.52 GiB" in text
