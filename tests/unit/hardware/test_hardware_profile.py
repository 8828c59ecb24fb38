"""Measured profiles, and their JSON."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import (
    CollectivePoint,
    EngineRun,
    Profile,
    profile_from_json,
    profile_to_json,
)
from rayserve_par.hardware.profile import Collective

EVIDENCE = Path(__file__).resolve().parents[3] / "../shared/evidence"
RUN = EngineRun(
    model="meta-llama/Meta-Llama-3.1-8B",
    precision="bf16",
    tp=1,
    ep=1,
    prompt_tokens=1024,
    prefill_seconds_by_prompt_tokens=((512, 0.0322), (2048, 0.0537)),
    tpot_seconds_by_batch=((1, 0.00501), (8, 0.00529)),
)
POINT = CollectivePoint("all_reduce", ranks=2, message_bytes=1024, seconds=26.5e-6)
H200 = Profile(
    gpu="H200",
    engine="vllm 0.25.0",
    measured_at="2026-11-20T10:00:00Z",
    copy_bytes_per_second=4.295e12,
    matmul_flops=((16, 7.72e14),),
    collectives=(POINT,),
    engine_runs=(RUN,),
)

positive = st.floats(1e-9, 1e18)
counts = st.integers(1, 10**9)


def pairs(
    keys: st.SearchStrategy[Any],
) -> st.SearchStrategy[tuple[tuple[Any, float], ...]]:
    return st.dictionaries(keys, positive, max_size=4).map(lambda found: tuple(found.items()))


profiles = st.builds(
    Profile,
    gpu=st.text(),
    engine=st.text(),
    measured_at=st.text(),
    copy_bytes_per_second=st.none() | positive,
    matmul_flops=pairs(st.floats(1, 32)),
    collectives=st.lists(
        st.builds(
            CollectivePoint,
            op=st.sampled_from(get_args(Collective)),
            ranks=st.integers(2, 72),
            message_bytes=counts,
            seconds=positive,
        ),
        max_size=3,
    ).map(tuple),
    engine_runs=st.lists(
        st.builds(
            EngineRun,
            model=st.text(),
            precision=st.text(),
            tp=st.integers(1, 72),
            ep=st.integers(1, 72),
            prompt_tokens=counts,
            prefill_seconds_by_prompt_tokens=pairs(counts),
            tpot_seconds_by_batch=pairs(counts),
        ),
        max_size=2,
    ).map(tuple),
)


@given(profiles)
def test_json_brings_it_back_whole(profile: Profile) -> None:
    assert profile_from_json(profile_to_json(profile)) == profile


def test_a_profile_may_hold_nothing_but_its_name() -> None:
    text = '{"gpu": "H200", "engine": "vllm 0.25.0", "measured_at": "2026-11-20"}'
    assert profile_from_json(text) == Profile("H200", "vllm 0.25.0", "2026-11-20")


@pytest.mark.skipif(not EVIDENCE.exists(), reason="the evidence is not beside this checkout")
def test_the_collectives_of_the_evidence_fit_in() -> None:
    rows = json.loads((EVIDENCE / "nccl_h200x2.json").read_text(encoding="utf-8"))
    points = tuple(CollectivePoint(r["op"], 2, r["bytes"], r["us"] / 1e6) for r in rows)
    text = profile_to_json(replace(H200, collectives=points))
    assert profile_from_json(text).collectives == points


def edited(**changes: Any) -> str:
    return json.dumps(json.loads(profile_to_json(H200)) | changes)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{}",
        "[]",
        "gpu: H200",
        edited(gpu=None),
        edited(copy_gbps=4295),
        edited(copy_bytes_per_second="fast"),
        edited(copy_bytes_per_second=-1),
        edited(matmul_flops=[[16]]),
        edited(matmul_flops=[[16, 7e14], [16, 8e14]]),
        edited(collectives=[{"op": "gossip", "ranks": 2, "message_bytes": 1, "seconds": 1}]),
        edited(collectives=[{"op": "all_reduce", "ranks": 1, "message_bytes": 1, "seconds": 1}]),
        edited(engine_runs=[{"model": "m"}]),
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(RefusedError, match="not a profile's JSON"):
        profile_from_json(text)


def test_every_problem_is_a_line_with_its_place() -> None:
    with pytest.raises(RefusedError) as caught:
        profile_from_json(edited(gpu=None, collectives=[{"op": "all_reduce", "ranks": 2}]))
    assert str(caught.value).splitlines() == [
        "this is not a profile's JSON:",
        "- gpu: Input should be a valid string",
        "- collectives.0.message_bytes: Field required",
        "- collectives.0.seconds: Field required",
    ]


@pytest.mark.parametrize(
    ("what", "change", "message"),
    [
        (POINT, {"ranks": 1}, "ranks of 1 must be at least 2"),
        (POINT, {"seconds": 0.0}, "seconds of 0 must be above 0"),
        (POINT, {"seconds": float("nan")}, "seconds of nan"),
        (POINT, {"message_bytes": -5}, "bytes of -5"),
        (RUN, {"tp": 0}, "tp of 0 must be at least 1"),
        (RUN, {"tpot_seconds_by_batch": ((0, 0.1),)}, "TPOT by batch: key of 0"),
        (RUN, {"tpot_seconds_by_batch": ((1, 0.1), (1, 0.2))}, "1 is measured twice"),
        (RUN, {"prefill_seconds_by_prompt_tokens": ((1, -0.1),)}, "seconds of -0.1"),
        (H200, {"copy_bytes_per_second": float("inf")}, "copy_bytes_per_second of inf"),
        (H200, {"matmul_flops": ((0, 1e12),)}, "compute bits of 0"),
        (H200, {"matmul_flops": ((16, 0.0),)}, "FLOP/s of 0"),
    ],
)
def test_measurements_that_cannot_be(what: Any, change: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        replace(what, **change)
