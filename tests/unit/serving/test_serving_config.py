"""The arguments of the application: strict, with the nearest name and the reason."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.planning import LayoutRequest, Target
from rayserve_par.serving.config import (
    OWNED_ENGINE_ARGUMENTS,
    AppArgs,
    AutoscalingArgs,
    LayoutArgs,
    parse_args,
)
from rayserve_par.serving.vllm_bridge.argument_names import vllm_argument_names


def refusal(**arguments: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        parse_args({"model": "m", **arguments}, "application x")
    message = str(caught.value)
    assert message.startswith("The args of application x are not valid:\n- ")
    return message


def test_the_defaults() -> None:
    args = parse_args({"model": "org/name-7b"}, "x")
    assert args.layout_request is None
    assert args.target is Target.BALANCED
    assert args.kv_allowance == 1.8
    assert args.gpu_memory_utilization == 0.9
    assert args.max_model_len is None
    assert args.public_name == "name-7b"


@pytest.mark.parametrize(
    ("model", "served", "public"),
    [
        ("org/name", None, "name"),
        ("/disk/models/name/", None, "name"),
        ("tiny-moe", None, "tiny-moe"),
        ("org/name", "gpt", "gpt"),
    ],
)
def test_the_name_that_clients_ask_for(model: str, served: str | None, public: str) -> None:
    assert parse_args({"model": model, "served_model_name": served}, "x").public_name == public


def test_aliases_are_names_after_the_first() -> None:
    args = parse_args({"model": "org/name", "aliases": ["gpt", "org/name"]}, "x")
    assert args.public_names == ("name", "gpt", "org/name")


def test_a_whole_config_is_read() -> None:
    args = parse_args(
        {
            "model": "m",
            "layout": {"tp": 8, "dp": 2, "ep": 16, "across": "nodes"},
            "target": "latency",
            "autoscaling": {"max_replicas": 4},
            "engine": {"max_model_len": 4096, "gpu_memory_utilization": 0.8},
        },
        "x",
    )
    assert args.layout_request == LayoutRequest(tp=8, dp=2, ep=16, across="nodes")
    assert args.target is Target.LATENCY
    assert args.autoscaling == AutoscalingArgs(min_replicas=1, max_replicas=4)
    assert args.autoscaling is not None
    assert args.autoscaling.target_ongoing_requests == 32.0
    assert (args.max_model_len, args.gpu_memory_utilization) == (4096, 0.8)


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ({"modle": "x"}, ("unknown key 'modle' in args", "did you mean 'model'?")),
        ({"num_replica": 2}, ("unknown key 'num_replica'", "did you mean 'num_replicas'?")),
        ({"max_model_len": 9}, ("unknown key 'max_model_len' in args", "valid keys: model, ")),
        ({"layout": {"tpp": 2}}, ("unknown key 'tpp' in layout", "valid keys: tp, pp, dp, ep")),
        ({"layout": {"accross": "nodes"}}, ("did you mean 'across'?",)),
        ({"autoscaling": {"max_replica": 2}}, ("in autoscaling", "did you mean 'max_replicas'?")),
        ({"layout": {"tp": 0}}, ("layout", "tp", "greater than 0")),
        ({"layout": "widest"}, ("layout", "auto")),
        ({"target": "price"}, ("target", "'balanced', 'latency', 'throughput', 'cost' or 'rate'")),
        ({"kv_allowance": 0}, ("kv_allowance", "greater than 0")),
        ({"kv_allowance": float("inf")}, ("kv_allowance", "finite number")),
        ({"workload": {"rate": float("inf")}}, ("workload.rate", "finite number")),
        (
            {"autoscaling": {"max_replicas": 2, "upscale_delay_s": float("inf")}},
            ("upscale_delay_s", "finite number"),
        ),
        ({"num_replicas": 0}, ("num_replicas",)),
        ({"aliases": ["m"]}, ("'m' is a name of this model already",)),
        ({"aliases": ["a", "b", "a"]}, ("'a' is a name of this model already",)),
        ({"mock_engine": {}, "engine": {"dtype": "float32"}}, ("exclude each other",)),
        ({"mock_engine": {"step_base_second": 1}}, ("did you mean 'step_base_seconds'?",)),
        ({"mock_engine": {"kv_blocks": 1}}, ("max_model_len 8192 is above the KV cache",)),
        ({"aliases": [""]}, ("aliases", "at least 1 character")),
        ({"model": ""}, ("model", "at least 1 character")),
        (
            {"num_replicas": 2, "autoscaling": {"max_replicas": 3}},
            ("num_replicas and autoscaling exclude each other",),
        ),
        (
            {"autoscaling": {"min_replicas": 3, "max_replicas": 2}},
            ("min_replicas 3 is above max_replicas 2",),
        ),
        (
            {"autoscaling": {"min_replicas": 0, "max_replicas": 2}},
            ("min_replicas 0 needs policy latency",),
        ),
        (
            {"autoscaling": {"max_replicas": 2, "priority": 3}},
            ("autoscaling.priority does nothing under policy ongoing_requests",),
        ),
        (
            {"autoscaling": {"max_replicas": 2, "priority": 101}},
            ("autoscaling", "priority", "100"),
        ),
        (
            {"autoscaling": {"max_replicas": 2, "priority": "high"}},
            ("autoscaling", "priority", "integer"),
        ),
        (
            {"autoscaling": {"policy": "latency", "max_replicas": 2}},
            ("policy latency needs workload.ttft_ms and workload.tpot_ms",),
        ),
        (
            {"autoscaling": {"policy": "latency", "max_replicas": 2}, "workload": {"ttft_ms": 9}},
            ("policy latency needs",),
        ),
        (
            {"autoscaling": {"max_replicas": 2, "dry_run": True}},
            ("autoscaling.dry_run does nothing under policy ongoing_requests",),
        ),
        (
            {
                "autoscaling": {"max_replicas": 2, "upscale_delay_s": 3},
                "workload": {"ttft_ms": 500, "tpot_ms": 50},
            },
            ("upscale_delay_s does nothing under policy latency", "or set policy: ongoing"),
        ),
    ],
)
def test_what_is_refused(arguments: dict[str, Any], parts: tuple[str, ...]) -> None:
    message = refusal(**arguments)
    for part in parts:
        assert part in message


@pytest.mark.parametrize(
    ("autoscaling", "workload", "policy"),
    [
        ({}, None, "ongoing_requests"),
        ({}, {"isl": 100}, "ongoing_requests"),
        ({}, {"ttft_ms": 500, "tpot_ms": 50}, "latency"),
        ({"policy": "ongoing_requests"}, {"ttft_ms": 500, "tpot_ms": 50}, "ongoing_requests"),
        ({"policy": "latency"}, {"ttft_ms": 500, "tpot_ms": 50}, "latency"),
        ({"min_replicas": 0}, {"ttft_ms": 500, "tpot_ms": 50}, "latency"),
    ],
)
def test_the_scaling_policy_follows_the_limits(
    autoscaling: dict[str, Any], workload: dict[str, Any] | None, policy: str
) -> None:
    arguments = {"model": "m", "autoscaling": {"max_replicas": 2, **autoscaling}}
    if workload is not None:
        arguments["workload"] = workload
    assert parse_args(arguments, "x").scaling_policy == policy
    assert parse_args({"model": "m"}, "x").scaling_policy is None


@pytest.mark.parametrize("key", sorted(OWNED_ENGINE_ARGUMENTS))
def test_engine_arguments_that_others_own_are_refused_with_the_reason(key: str) -> None:
    message = refusal(engine={key: 1})
    assert f"engine.{key} is refused: {OWNED_ENGINE_ARGUMENTS[key]}" in message


def test_the_owned_arguments_exist_in_vllm() -> None:
    """A name that vLLM does not have would guard nothing; two are of its parser alone."""
    parser_only = {"api_server_count", "headless"}
    assert set(OWNED_ENGINE_ARGUMENTS) - vllm_argument_names() == parser_only


def test_two_mistakes_are_said_together() -> None:
    message = refusal(kv_allowance=-1, num_replicas=-1)
    assert "kv_allowance" in message
    assert "num_replicas" in message


@given(st.text(min_size=1, max_size=12))
def test_no_unknown_key_gets_through(key: str) -> None:
    for known, arguments in (
        (AppArgs.model_fields, {"model": "m", key: 1}),
        (LayoutArgs.model_fields, {"model": "m", "layout": {key: 1}}),
    ):
        if key not in known:
            with pytest.raises(RefusedError, match="unknown key"):
                parse_args(arguments, "x")
