"""What is served and asked: a model, its hardware and engine arguments, and the requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from benchmarks.front.asked import WORDS
from benchmarks.front.shapes import SHAPES, shape_folder
from benchmarks.front.summary import Bounds
from rayserve_par.hardware.cluster import parse_cluster
from rayserve_par.serving.app import plan_for, replica_spec
from rayserve_par.serving.config import parse_args
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.settings import load_settings


@dataclass(frozen=True)
class Workload:
    """One model and its load; `requests` has the requests of one cell by number of streams.

    `prompt_words` are about as many prompt tokens, `output_tokens` exact; with `spread` they differ
    by up to that share of themselves. `bounds` are what ours
    may cost against the bare server. `rate`: requests a second, in which case the streams are only
    the most at once; 0: each stream sends its next request when its last one ends.
    """

    model: str
    requests: Mapping[int, int]
    hardware: str = "1x1xlogical-cpu"
    engine: Mapping[str, Any] = field(default_factory=lambda: {"max_model_len": 2048})
    prompt_words: int = 100
    output_tokens: int = 32
    bounds: Bounds = field(default_factory=Bounds)
    rate: float = 0.0
    spread: float = 0.0

    @property
    def args(self) -> dict[str, Any]:
        """The application's arguments: one instance, TP1."""
        return {
            "model": self._source,
            "layout": {"tp": 1},
            "num_replicas": 1,
            "engine": dict(self.engine),
        }

    @property
    def _source(self) -> str:
        if self.model not in SHAPES:
            return self.model
        return str(shape_folder(self.model, WORDS, load_settings().cache_dir / "shapes"))

    def prepare(self) -> None:
        """Make the model where it is not there."""
        locate_model(self._source)

    @cached_property
    def spec(self) -> ReplicaSpec:
        """What our replica is told."""
        args = parse_args(self.args, "the benchmark")
        model = locate_model(args.model)
        return replica_spec(args, model, plan_for(args, model, parse_cluster(self.hardware)))


# Both servers' engines share the one GPU.
_GPU_ENGINE = {"load_format": "dummy", "max_model_len": 4096, "gpu_memory_utilization": 0.42}
_GPU_BOUNDS = Bounds(ttft_p50_at_most=1.05, requests_at_least=0.97)

# Enough requests for a percentile, few enough for the whole run. The tiny model takes next to no
# time itself, so that its figures are those of the servers. The shapes need a GPU.
WORKLOADS = {
    load.model: load
    for load in (
        Workload("smollm2-135m-instruct", {1: 6, 8: 16, 32: 32, 128: 128}),
        Workload("tiny-llama", {1: 100, 8: 200, 32: 400, 128: 512}),
        Workload(
            "llama-3.1-8b-shape",
            {1: 10, 8: 40, 32: 128, 128: 384, 256: 512},
            hardware="1x1xh200",
            engine=_GPU_ENGINE,
            prompt_words=1000,
            output_tokens=128,
            bounds=_GPU_BOUNDS,
        ),
        Workload(
            "qwen3-0.6b-shape",
            {1: 60, 8: 400, 32: 1280, 128: 3072, 256: 3072},
            hardware="1x1xh200",
            engine=_GPU_ENGINE,
            output_tokens=64,
            bounds=_GPU_BOUNDS,
        ),
    )
}
