"""Times and capacities: the step's formula, and what is refused."""

from __future__ import annotations

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.serving.mock_engine.times import EngineTimes


@pytest.mark.parametrize(
    ("sequences", "prefill_tokens", "seconds"),
    [
        (1, 0, 0.0301),
        (10, 0, 0.031),
        (1, 500, 0.1301),  # 500 tokens / 5000 tokens a second on top
    ],
)
def test_step_seconds(sequences: int, prefill_tokens: int, seconds: float) -> None:
    times = EngineTimes(
        prefill_tokens_per_second=5000, step_base_seconds=0.03, step_seconds_per_sequence=1e-4
    )
    assert times.step_seconds(sequences, prefill_tokens) == pytest.approx(seconds)


def test_requests_per_second_of_a_full_engine() -> None:
    times = EngineTimes(
        prefill_tokens_per_second=5000,
        step_base_seconds=0.032,
        step_seconds_per_sequence=1e-3,
        max_num_seqs=32,
    )
    # 1 s of prompt, and 500 tokens at 1 ms of its own and 1 ms of the shared base.
    assert times.full_requests_per_second(5000, 500) == pytest.approx(1 / 2)


@pytest.mark.parametrize(
    ("tokens", "blocks"), [(0, 0), (1, 1), (15, 1), (16, 1), (17, 2), (160, 10)]
)
def test_blocks_of(tokens: int, blocks: int) -> None:
    assert EngineTimes().blocks_of(tokens) == blocks


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"kv_block": 10}, "did you mean 'kv_blocks'"),
        ({"kv_blocks": 0}, "above 0"),
        ({"kv_blocks": "many"}, "not a number"),
        ({"max_num_seqs": 1.5}, "not a number"),
        ({"step_base_seconds": float("nan")}, "not a number"),
        ({"step_base_seconds": True}, "not a number"),
        ({"prefill_tokens_per_second": -1}, "above 0"),
        ({"scheduling_policy": "lifo"}, "fcfs, priority"),
        ({"max_num_seqs": 64, "max_num_batched_tokens": 32}, "32 is below max_num_seqs 64"),
        ({"kv_blocks": 10}, "10 blocks x 16 tokens = 160 tokens"),
        ({"by_layout": {"TP2": {"kv_blocks": 0}}}, "above 0"),
        ({"by_layout": {"TP2": {"by_layout": {}}}}, "unknown key 'by_layout'"),
        ({"by_layout": {"tp2": {}}}, "such as {TP2: "),
        ({"by_layout": {"": {}}}, "such as {TP2: "),
        ({"by_layout": {"TP2": 3}}, "give keys with values"),
        ({"by_layout": None}, "give layouts' labels"),
    ],
)
def test_refused(data: dict[str, object], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        EngineTimes.from_mapping(data)


def test_from_mapping_takes_every_field() -> None:
    times = EngineTimes.from_mapping({"step_seconds_per_sequence": 0, "kv_blocks": 1024})
    assert (times.step_seconds_per_sequence, times.kv_tokens) == (0, 16384)


@pytest.mark.parametrize(
    ("layout", "seconds"), [("TP1", 0.01), ("TP2", 0.05), ("TP2PP2", 0.02), ("DP2EP2", 0.02)]
)
def test_a_layout_may_have_times_of_its_own(layout: str, seconds: float) -> None:
    others = {"TP1": {"step_base_seconds": 0.01}, "TP2": {"step_base_seconds": 0.05}}
    data = {"step_base_seconds": 0.02, "kv_blocks": 1024, "by_layout": others}
    times = EngineTimes.from_mapping(data, layout)
    assert (times.step_base_seconds, times.kv_blocks) == (seconds, 1024)
