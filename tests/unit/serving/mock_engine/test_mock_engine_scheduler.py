"""Continuous batching: exact steps for known cases, and what holds for all."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.serving.mock_engine.scheduler import Request, Scheduler, Step, Token
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.mock_engine.tokens import block_names

BLOCK = 4


def times(**values: object) -> EngineTimes:
    small = {
        "prefill_tokens_per_second": 100.0,
        "step_base_seconds": 1.0,
        "step_seconds_per_sequence": 0.1,
        "block_tokens": BLOCK,
        "kv_blocks": 64,
        "max_model_len": 256,
        "max_num_seqs": 4,
        "max_num_batched_tokens": 32,
    }
    return EngineTimes.from_mapping({**small, **values})


def request(name: str, prompt: Sequence[str], output: int, priority: int = 0) -> Request:
    answer = [f"{name}{n}" for n in range(output)]
    names = block_names([*prompt, *answer], BLOCK)
    return Request(name, len(prompt), output, names, priority)


def words(letter: str, count: int) -> list[str]:
    return [f"{letter}{n}" for n in range(count)]


def run(scheduler: Scheduler) -> tuple[list[Step], list[tuple[str, int]]]:
    """All steps and (request, count) of all tokens until nobody is left."""
    steps, tokens = [], []
    while (step := scheduler.start_step()) is not None:
        steps.append(step)
        tokens += [(token.request_id, token.count) for token in scheduler.finish_step()]
        assert len(steps) < 10_000, "no end"
    return steps, tokens


def test_one_request_step_by_step() -> None:
    scheduler = Scheduler(times())
    scheduler.add(request("a", words("p", 50), 3))
    steps, tokens = run(scheduler)
    # 50 prompt tokens take two steps of at most 32; the second makes the first token.
    assert steps == [
        Step(pytest.approx(1.0 + 0.1 + 0.32), 1, 32),
        Step(pytest.approx(1.0 + 0.1 + 0.18), 1, 18),
        Step(pytest.approx(1.1), 1, 0),
        Step(pytest.approx(1.1), 1, 0),
    ]
    assert tokens == [("a", 1), ("a", 2), ("a", 3)]
    assert scheduler.kv_usage == 0


def test_decoding_goes_first_and_prompts_get_what_is_left() -> None:
    scheduler = Scheduler(times())
    scheduler.add(request("a", words("p", 8), 4))
    scheduler.start_step()
    assert scheduler.finish_step() == (Token("a", 1, False, 0),)
    scheduler.add(request("b", words("q", 40), 1))
    step = scheduler.start_step()
    assert step is not None
    assert (step.sequences, step.prefill_tokens) == (2, 31)
    assert scheduler.finish_step() == (Token("a", 2, False, 0),)
    step = scheduler.start_step()
    assert step is not None
    assert step.prefill_tokens == 9
    assert scheduler.finish_step() == (Token("a", 3, False, 0), Token("b", 1, True, 0))


@pytest.mark.parametrize(
    ("prompt", "cached"),
    [
        (12, 8),  # the last token is always computed, so its block is too
        (13, 12),
        (11, 8),
        (4, 0),
    ],
)
def test_the_same_prompt_again(prompt: int, cached: int) -> None:
    scheduler = Scheduler(times())
    scheduler.add(request("a", words("p", prompt), 1))
    run(scheduler)
    scheduler.add(request("b", words("p", prompt), 1))
    step = scheduler.start_step()
    assert step is not None
    assert step.prefill_tokens == prompt - cached
    assert scheduler.finish_step() == (Token("b", 1, True, cached),)
    assert scheduler.prefix_query_tokens == 2 * prompt
    assert scheduler.prefix_hit_tokens == cached


def test_answers_are_found_too() -> None:
    scheduler = Scheduler(times())
    first = request("a", words("p", 6), 8)
    scheduler.add(first)
    run(scheduler)
    # The last token's KV is never computed: 13 of 14 tokens, three full blocks.
    again = [*words("p", 6), *words("a", 8), *words("q", 6)]
    scheduler.add(request("b", again, 1))
    scheduler.start_step()
    assert scheduler.finish_step() == (Token("b", 1, True, 12),)


def test_without_prefix_caching_nothing_is_found() -> None:
    scheduler = Scheduler(times(enable_prefix_caching=False))
    for name in "ab":
        scheduler.add(request(name, words("p", 12), 1))
        run(scheduler)
    assert scheduler.prefix_hit_tokens == 0
    assert scheduler.cache.idle_blocks == 0


def test_preempted_requests_end_and_keep_their_turn() -> None:
    # Room for 8 blocks; three sequences that grow to 4, 4 and 4 blocks.
    scheduler = Scheduler(times(kv_blocks=8, max_model_len=32))
    for name in "abc":
        scheduler.add(request(name, words(name, 6), 8))
    _, tokens = run(scheduler)
    assert scheduler.preemptions > 0
    firsts = [name for name, count in tokens if count == 1]
    lasts = [name for name, count in tokens if count == 8]
    assert (firsts, lasts) == (["a", "b", "c"], ["a", "b", "c"])


def test_aborting_frees_the_blocks_at_once_even_during_a_step() -> None:
    scheduler = Scheduler(times())
    for name in "abcde":  # four run, one waits
        scheduler.add(request(name, words(name, 6), 8))
    scheduler.start_step()
    for name in "ae":
        scheduler.abort(name)
    assert (scheduler.running, scheduler.waiting) == (3, 0)
    assert [token.request_id for token in scheduler.finish_step()] == ["b", "c", "d"]
    for name in "bcd":
        scheduler.abort(name)
    assert scheduler.kv_usage == 0
    assert scheduler.start_step() is None


def test_an_id_used_again_during_the_step_of_the_aborted_one() -> None:
    scheduler = Scheduler(times())
    scheduler.add(request("a", words("p", 6), 8))
    scheduler.start_step()
    scheduler.abort("a")
    scheduler.add(request("a", words("q", 6), 1))
    assert scheduler.finish_step() == ()
    assert run(scheduler)[1] == [("a", 1)]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (request("x", words("p", 250), 10), "260 tokens are above max_model_len 256"),
        (request("x", [], 1), "both >= 1"),
        (request("a", words("p", 2), 1), "in use"),
    ],
)
def test_what_cannot_be_is_refused(bad: Request, message: str) -> None:
    scheduler = Scheduler(times())
    scheduler.add(request("a", words("p", 2), 1))
    with pytest.raises(ValueError, match=message):
        scheduler.add(bad)


@pytest.mark.parametrize(
    ("policy", "order"), [("fcfs", ["a", "b", "c"]), ("priority", ["c", "a", "b"])]
)
def test_who_comes_first(policy: str, order: list[str]) -> None:
    scheduler = Scheduler(times(scheduling_policy=policy, max_num_seqs=1))
    for name, priority in (("a", 0), ("b", 5), ("c", -1)):
        scheduler.add(request(name, words(name, 3), 1, priority))
    assert [name for name, _ in run(scheduler)[1]] == order


# (prompt letter, prompt tokens, output tokens, priority, steps until the next arrival, aborted)
ARRIVALS = st.lists(
    st.tuples(
        st.sampled_from("xyz"),
        st.integers(1, 40),
        st.integers(1, 20),
        st.integers(-1, 1),
        st.integers(0, 6),
        st.booleans(),
    ),
    min_size=1,
    max_size=20,
)
CAPACITIES = st.fixed_dictionaries(
    {
        "kv_blocks": st.integers(15, 40),
        "max_num_seqs": st.integers(1, 6),
        "max_num_batched_tokens": st.integers(6, 64),
        "scheduling_policy": st.sampled_from(["fcfs", "priority"]),
        "enable_prefix_caching": st.booleans(),
    }
)


@given(ARRIVALS, CAPACITIES)
def test_what_always_holds(
    arrivals: list[tuple[str, int, int, int, int, bool]], capacities: dict[str, object]
) -> None:
    engine = times(max_model_len=60, **capacities)
    scheduler = Scheduler(engine)
    wanted: dict[str, Request] = {}
    got: dict[str, list[int]] = {}
    first_tokens: list[str] = []
    finished: list[str] = []

    def step() -> bool:
        started = scheduler.start_step()
        cache = scheduler.cache
        assert 0 <= cache.used_blocks <= cache.blocks
        assert cache.used_blocks + cache.free_blocks == cache.blocks
        assert scheduler.running <= engine.max_num_seqs
        if started is None:
            assert scheduler.running == scheduler.waiting == 0, "work is left and nobody runs"
            return False
        assert started.prefill_tokens <= engine.max_num_batched_tokens
        assert started.sequences <= scheduler.running
        for token in scheduler.finish_step():
            got[token.request_id].append(token.count)
            assert 0 <= token.cached < wanted[token.request_id].prompt_tokens
            assert token.cached % BLOCK == 0
            if token.count == 1:
                first_tokens.append(token.request_id)
            if token.finished:
                finished.append(token.request_id)
        return True

    for number, (letter, prompt, output, priority, gap, aborted) in enumerate(arrivals):
        asked = request(f"r{number}", words(letter, prompt), output, priority)
        wanted[asked.request_id], got[asked.request_id] = asked, []
        scheduler.add(asked)
        for _ in range(gap):
            step()
        if aborted:
            scheduler.abort(asked.request_id)
            if asked.request_id not in finished:
                del wanted[asked.request_id]
    for _ in range(10_000):
        if not step():
            break
    assert sorted(finished) == sorted(wanted)
    for name, asked in wanted.items():
        assert got[name] == list(range(1, asked.output_tokens + 1))
    if engine.scheduling_policy == "fcfs":
        assert first_tokens == sorted(first_tokens, key=lambda name: int(name[1:]))
    assert scheduler.kv_usage == 0
    assert 0 <= scheduler.prefix_hit_tokens <= scheduler.prefix_query_tokens


def test_the_same_calls_give_the_same_steps() -> None:
    results = []
    for _ in range(2):
        scheduler = Scheduler(times(kv_blocks=20, max_model_len=60))
        for number in range(12):
            scheduler.add(request(f"r{number}", words("xyz"[number % 3], 5 + number), 9))
        results.append(run(scheduler))
    assert results[0] == results[1]
