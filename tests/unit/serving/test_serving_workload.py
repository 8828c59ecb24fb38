"""The workload that a config may state."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import Workload
from rayserve_par.serving.app import plan_for, replica_spec
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model

LLAMA_8B = "meta-llama/Llama-3.1-8B-Instruct"


@pytest.mark.parametrize(
    ("stated", "context", "found"),
    [
        (None, 4096, None),
        ({}, 4096, Workload()),
        ({"isl": 100}, 4096, Workload(isl=100, osl=256)),
        ({"rate": 3, "ttft_ms": 500, "tpot_ms": 20}, 4096, Workload(1024, 256, 3, 0.5, 0.02)),
        ({"rate": 3}, 100, Workload(isl=80, osl=20, requests_per_second=3)),
    ],
)
def test_what_is_not_stated_is_the_planners_default(
    stated: dict[str, Any] | None, context: int, found: Workload | None
) -> None:
    args = parse_args({"model": "m", "workload": stated}, "x")
    assert args.planned_workload(context) == found


@pytest.mark.parametrize(
    ("stated", "part"),
    [
        ({"ttft": 5}, "did you mean 'ttft_ms'?"),
        ({"isl": 0}, "greater than 0"),
        ({"rate": -1}, "greater than 0"),
    ],
)
def test_what_is_refused(stated: dict[str, Any], part: str) -> None:
    with pytest.raises(RefusedError) as caught:
        parse_args({"model": "m", "workload": stated}, "x")
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "instances"),
    [
        ({}, 1),
        ({"workload": {"isl": 500}}, 1),
        ({"workload": {"rate": 1}}, 1),
        ({"workload": {"rate": 1}, "num_replicas": 3}, 3),
        ({"num_replicas": "fit"}, 8),
        ({"autoscaling": {"max_replicas": 2}}, 8),
    ],
)
def test_instances(arguments: dict[str, Any], instances: int) -> None:
    args = parse_args({"model": LLAMA_8B, "layout": {"tp": 1}, **arguments}, "x")
    model = locate_model(LLAMA_8B, prepare=False)
    assert plan_for(args, model, parse_cluster("8xH100")).instances == instances


def test_a_rate_takes_as_many_as_carry_it() -> None:
    model, cluster = locate_model(LLAMA_8B, prepare=False), parse_cluster("8xH100")

    def planned(rate: float) -> Any:
        workload = {"rate": rate}
        args = parse_args({"model": LLAMA_8B, "layout": {"tp": 1}, "workload": workload}, "x")
        return plan_for(args, model, cluster)

    each = planned(1).point.requests_per_second
    assert planned(3.5 * each).instances == 4


def test_engine_arguments_count_in_the_plan() -> None:
    model = locate_model("meta-llama/Llama-3.1-8B-Instruct", prepare=False)
    cluster = parse_cluster("8xH100")
    plain = parse_args({"model": model.spec.name}, "x")
    engine = {"kv_cache_dtype": "fp8", "max_num_seqs": 8}
    asked = parse_args({"model": model.spec.name, "engine": engine}, "x")
    usual, told = plan_for(plain, model, cluster), plan_for(asked, model, cluster)
    assert told.memory.kv_tokens > 1.9 * usual.memory.kv_tokens
    assert told.point.streams <= 8 < usual.point.streams


@pytest.mark.parametrize(
    ("hardware", "engine", "batch"),
    [
        ("8xH100", {}, (8192, 1024)),
        ("8xB200", {}, (16384, 1024)),
        ("8xL40S", {}, (2048, 256)),
        ("8xH100", {"max_num_seqs": 64}, (8192, 64)),
        ("8xH100", {"max_num_batched_tokens": 1664}, (1664, 1024)),
        ("1x2xlogical-cpu", {}, (None, None)),
    ],
)
def test_the_engine_gets_the_batch_that_was_planned(
    hardware: str, engine: dict[str, int], batch: tuple[int | None, int | None]
) -> None:
    arguments = {"model": LLAMA_8B, "layout": {"tp": 2}, "engine": engine}
    args, model = parse_args(arguments, "x"), locate_model(LLAMA_8B, prepare=False)
    if hardware.endswith("logical-cpu"):
        model = locate_model("tiny-llama", prepare=False)
    told = replica_spec(args, model, plan_for(args, model, parse_cluster(hardware))).engine
    assert (told.get("max_num_batched_tokens"), told.get("max_num_seqs")) == batch
