"""Bytes of a rank's weights, as the engine's worker counts them."""

from __future__ import annotations

import torch

from rayserve_par.serving.vllm_bridge.weight_bytes import (
    QUESTION,
    WeightBytesExtension,
    stored_bytes,
)


def test_parameters_and_buffers_count_once_each() -> None:
    model = torch.nn.Sequential(torch.nn.Linear(4, 3, bias=False), torch.nn.Linear(4, 3, bias=True))
    model[1].weight = model[0].weight
    model.register_buffer("table", torch.zeros(5, dtype=torch.bfloat16))
    assert stored_bytes(model) == 4 * 3 * 4 + 3 * 4 + 5 * 2


def test_a_view_counts_as_what_it_keeps_alive() -> None:
    model = torch.nn.Module()
    model.part = torch.nn.Parameter(torch.zeros(10, 8)[:2])
    assert stored_bytes(model) == 10 * 8 * 4


def test_the_worker_answers_for_its_own_model() -> None:
    class Worker(WeightBytesExtension):
        def get_model(self) -> object:
            return torch.nn.Linear(2, 2, bias=False)

    assert getattr(Worker(), QUESTION)() == 16
