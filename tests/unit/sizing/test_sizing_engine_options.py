"""Defaults by GPU, captured graphs, and what each version of the engine does."""

from typing import Any

import pytest
from sizing_cases import DEEPSEEK, GPT_OSS, LLAMA_8B, hybrid

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.sizing import EngineOptions


@pytest.mark.parametrize(
    ("gpu", "options", "batch"),
    [
        ("B200", {}, (16384, 1024)),
        ("H100", {}, (8192, 1024)),
        ("H200", {}, (8192, 1024)),
        ("A100-80", {}, (2048, 256)),
        ("L40S", {}, (2048, 256)),
        ("H100", {"max_num_seqs": 16}, (8192, 16)),
        ("H100", {"max_num_batched_tokens": 512}, (512, 512)),
        # No more tokens than all sequences have.
        ("H100", {"max_num_seqs": 4, "max_model_len": 1024}, (4096, 4)),
    ],
)
def test_batch_by_gpu(gpu: str, options: dict[str, Any], batch: tuple[int, int]) -> None:
    assert EngineOptions(**options).batch(gpu_by_name(gpu), LLAMA_8B) == batch


@pytest.mark.parametrize(
    ("sequences", "graphs"),
    [
        # "Profiling CUDA graph memory: PIECEWISE=51 (largest=512), FULL=35 (largest=256)":
        # github.com/vllm-project/vllm/pull/39559
        (256, 51 + 35),
        (1024, 51 + 51),
        (128, 35 + 19),
        (8, 5 + 4),
        (1, 2 + 1),
    ],
)
def test_captured_graphs(sequences: int, graphs: int) -> None:
    assert EngineOptions().graphs(sequences) == graphs
    assert EngineOptions(enforce_eager=True).graphs(sequences) == 0


@pytest.mark.parametrize(
    ("version", "dense", "moe", "stateful"),
    [
        ((0, 19), (False, False), (False, False), (False, False)),
        ((0, 20), (False, True), (False, True), (False, True)),
        ((0, 25), (True, False), (False, True), (False, True)),
        ((0, 32), (True, True), (True, True), (True, True)),
    ],
)
def test_runner_and_graphs_by_version(
    version: tuple[int, int],
    dense: tuple[bool, bool],
    moe: tuple[bool, bool],
    stateful: tuple[bool, bool],
) -> None:
    options = EngineOptions(version=version)
    for model, expected in ((LLAMA_8B, dense), (GPT_OSS, moe), (hybrid(), stateful)):
        assert (options.runner_v2(model), options.graphs_in_budget(model)) == expected
    assert not EngineOptions(version=version, enforce_eager=True).graphs_in_budget(DEEPSEEK)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"gpu_memory_utilization": 0.0}, "gpu_memory_utilization is 0"),
        ({"gpu_memory_utilization": -0.1}, "gpu_memory_utilization is -0.1"),
        ({"gpu_memory_utilization": 1.01}, "gpu_memory_utilization is 1.01"),
        ({"max_num_seqs": 0}, "max_num_seqs is 0; it must be at least 1"),
        ({"max_model_len": -1}, "max_model_len is -1"),
        ({"redundant_experts": -1}, "redundant_experts is -1; it must be at least 0"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        EngineOptions(**options)
