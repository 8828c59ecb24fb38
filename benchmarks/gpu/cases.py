"""What is run: engines by model and layout, and what is served."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.front.workloads import WORKLOADS, Workload
from benchmarks.gpu.machine import Machine
from rayserve_par.hardware import gpu_by_name
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.planning import Layout
from rayserve_par.planning.legality import split_of
from rayserve_par.serving.model_store.locate import locate_model
from rayserve_par.sizing import EngineOptions, worst_rank_memory

ISL_TOKENS = 1024
MAX_MODEL_LEN = 8192
_MIB_PER_GIB = 1024


def gpu_of(machine: Machine) -> Gpu:
    """The catalogue's GPU with the memory that this machine's driver tells."""
    gpu = gpu_by_name(machine.gpu)
    return replace(gpu, usable_gib=machine.memory_mib / _MIB_PER_GIB)


@dataclass(frozen=True, slots=True)
class EngineCase:
    """A model, by a name whose config is shipped, in one layout, with random weights."""

    model: str
    layout: Layout

    @property
    def slug(self) -> str:
        """What its file is called after."""
        return f"{self.model.rsplit('/', 1)[-1].lower()}-{self.layout.label.lower()}"

    @property
    def arguments(self) -> dict[str, Any]:
        """What the engine is told of the layout beside its TP."""
        told: dict[str, Any] = {}
        if self.layout.pp > 1:
            told["pipeline_parallel_size"] = self.layout.pp
        if self.layout.ep > 1:
            told["enable_expert_parallel"] = True
        return told

    def why_not(self, machine: Machine) -> str | None:
        """Why its weights and one request do not fit this machine's GPUs; None where they do."""
        if machine.is_logical:
            return None  # tiny models stand in there
        options = EngineOptions(max_model_len=MAX_MODEL_LEN)
        model = locate_model(self.model, prepare=False).spec
        memory = worst_rank_memory(model, gpu_of(machine), split_of(self.layout), options)
        if memory.fits(MAX_MODEL_LEN):
            return None
        return f"does not fit: {memory.shortage(MAX_MODEL_LEN)}"


_SMALL = "Qwen/Qwen3-0.6B"
_DENSE = "meta-llama/Llama-3.1-8B-Instruct"
_EXPERTS = "Qwen/Qwen3-30B-A3B"
_FP8 = "nvidia/Llama-3.3-70B-Instruct-FP8"

ENGINES = (
    EngineCase(_SMALL, Layout(tp=1)),
    EngineCase(_DENSE, Layout(tp=1)),
    EngineCase(_DENSE, Layout(tp=2)),
    EngineCase(_DENSE, Layout(tp=1, pp=2)),
    EngineCase(_EXPERTS, Layout(tp=1)),
    EngineCase(_EXPERTS, Layout(tp=2)),
    EngineCase(_EXPERTS, Layout(tp=2, ep=2)),
    EngineCase(_FP8, Layout(tp=1)),
    EngineCase(_FP8, Layout(tp=2)),
)

# Those of which layouts are compared.
SPLIT_MODELS = (_DENSE, _EXPERTS)


@dataclass(frozen=True, slots=True)
class ServedCase:
    """Instances of one layout behind our front; `experts` asks for a model with experts."""

    layout: Layout
    instances: int = 1
    experts: bool = False

    @property
    def slug(self) -> str:
        """What its file is called after."""
        many = f"{self.instances}x" if self.instances > 1 else ""
        return f"{many}{self.layout.label.lower()}"

    @property
    def label(self) -> str:
        """What is served, in words."""
        return (
            f"{self.instances} x {self.layout.label}" if self.instances > 1 else self.layout.label
        )

    @property
    def gpus(self) -> int:
        """GPUs of all instances."""
        return self.layout.gpus * self.instances

    def hardware(self, machine: Machine) -> str:
        """The GPUs that it is served on: one node of as many as it needs."""
        return f"1x{self.gpus}x{machine.gpu.lower()}"

    def load(self, machine: Machine, model: str, engine: Mapping[str, Any]) -> Workload:
        """The workload `model` of the front's benchmark with these engine arguments."""
        known = WORKLOADS.get(model) or Workload(model, {1: 1})
        return replace(known, hardware=self.hardware(machine), engine=dict(engine))

    def args(self, load: Workload) -> dict[str, Any]:
        """The application's arguments."""
        layout = self.layout
        sizes = {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep}
        return {**load.args, "layout": sizes, "num_replicas": self.instances}


SERVED = (
    ServedCase(Layout(tp=1)),
    ServedCase(Layout(tp=1), instances=2),
    ServedCase(Layout(tp=2)),
    ServedCase(Layout(tp=1, pp=2)),
    ServedCase(Layout(tp=1, dp=2, ep=2), experts=True),
)
