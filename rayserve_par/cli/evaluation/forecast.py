"""Predictions from inputs alone.

    served   memory of the fullest rank as vLLM's defaults make it (other engines too: theirs is
             not modelled); KV tokens bound what runs at once, unless not even one request fits,
             as the row tells of an engine that did run
    engine   memory with the row's own arguments and its engine's version; a decode step at a
             context of 1024 + 64 / 2 tokens, the middle of 64 steps after a prompt of 1024

A row says how many GPUs, not on which nodes: they are taken to be the GPU's usual nodes, as few as
hold the layout, and ranks on several talk over NICs unless one NVLink domain joins them.
Everything that depends on model, GPU, layout and arguments only is worked out once.
"""

from dataclasses import dataclass, field, replace
from math import ceil
from typing import Any

from rayserve_par.cli.evaluation.config_folder import ConfigFolder
from rayserve_par.cli.evaluation.inputs import (
    DECODE_TABLE,
    PREFILL_TABLE,
    EngineInput,
    ServedInput,
)
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.hardware.cluster import NodeGroup
from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.model import ModelSpec
from rayserve_par.planning.candidate import in_one_domain
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.legality import split_of
from rayserve_par.planning.performance import Predictor, predictor
from rayserve_par.planning.spread import Spread, spread_of
from rayserve_par.sizing import EngineOptions, RankMemory, worst_rank_memory

DECODE_CONTEXT_TOKENS = 1024 + 64 / 2
_DEFAULT_REQUEST_TOKENS = 2048


@dataclass(frozen=True, slots=True)
class _Setting:
    """What memory and speed depend on, beside the batch and the lengths."""

    model: str
    precision: str
    gpu: str
    usable_gib: float | None
    layout: Layout


@dataclass(slots=True)
class Forecaster:
    """Predicts rows of evidence from their inputs, with the configs of a folder."""

    configs: ConfigFolder
    _memories: dict[tuple[_Setting, EngineOptions], RankMemory] = field(default_factory=dict)
    _predictors: dict[tuple[_Setting, str], Predictor] = field(default_factory=dict)

    def served(self, given: ServedInput) -> dict[str, Any]:
        """TTFT and TPOT in ms, memory, and tokens per second and GPU by the same numbers."""
        setting = _Setting(given.model, given.precision, given.gpu, None, self.layout(given))
        memory = self._memory(setting, EngineOptions())
        tokens = given.isl + given.osl
        point = self._predictor(setting, given.engine).at(
            isl=given.isl,
            osl=given.osl,
            streams=given.concurrency,
            kv_tokens=memory.kv_tokens if memory.kv_tokens >= tokens else None,
        )
        return {
            "predicted_ttft_ms": 1e3 * point.ttft_seconds,
            "predicted_tpot_ms": 1e3 * point.tpot_seconds,
            "predicted_tokens_per_second_per_gpu": point.tokens_per_second_per_gpu,
            **memory_fields(memory, tokens=int(tokens)),
        }

    def engine(self, given: EngineInput) -> dict[str, Any]:
        """Memory, seconds of a decode step by batch, and of a prefill by prompt length."""
        layout, total_gib = self.layout(given), given.gpu_total_gib
        setting = _Setting(given.model, given.precision, given.gpu, total_gib, layout)
        options = EngineOptions(
            gpu_memory_utilization=given.gpu_memory_utilization,
            max_num_batched_tokens=given.max_num_batched_tokens,
            max_num_seqs=given.max_num_seqs,
            max_model_len=given.max_model_len,
        )
        if given.engine == "vllm" and given.version is not None:
            options = replace(options, version=given.version)
        memory = self._memory(setting, options)
        speed = self._predictor(setting, given.engine)
        context = DECODE_CONTEXT_TOKENS
        return {
            **memory_fields(memory, tokens=given.max_model_len or _DEFAULT_REQUEST_TOKENS),
            f"predicted_{DECODE_TABLE}": {
                str(batch): speed.decode_time(batch=batch, context_tokens=context).total
                for batch in given.batches
            },
            f"predicted_{PREFILL_TABLE}": {
                str(tokens): speed.prefill_seconds(tokens) for tokens in given.prompts
            },
        }

    def layout(self, given: ServedInput | EngineInput) -> Layout:
        """The row's layout; expert ranks that a row names of a dense model mean nothing."""
        model = self.configs.spec(given.model, given.precision)
        return given.layout if model.is_moe else replace(given.layout, ep=1)

    def _parts(self, setting: _Setting) -> tuple[ModelSpec, Gpu]:
        gpu = gpu_by_name(setting.gpu)
        if setting.usable_gib is not None:
            gpu = replace(gpu, usable_gib=setting.usable_gib)
        return self.configs.spec(setting.model, setting.precision), gpu

    def _memory(self, setting: _Setting, options: EngineOptions) -> RankMemory:
        key = (setting, options)
        if key not in self._memories:
            model, gpu = self._parts(setting)
            split = split_of(setting.layout)
            self._memories[key] = worst_rank_memory(model, gpu, split, options)
        return self._memories[key]

    def _predictor(self, setting: _Setting, engine: str) -> Predictor:
        key = (setting, engine)
        if key not in self._predictors:
            model, gpu = self._parts(setting)
            layout = setting.layout
            spread = _spread(layout, gpu)
            joined = in_one_domain(spread)
            self._predictors[key] = predictor(
                model,
                gpu,
                layout,
                engine=engine,
                stages_share_a_node=joined,
                nodes_per_stage=1 if joined else ceil(spread.nodes_per_instance / layout.pp),
            )
        return self._predictors[key]


def _spread(layout: Layout, gpu: Gpu) -> Spread:
    """The layout on as many of the GPU's usual nodes as its TP groups can need."""
    size = gpu.gpus_per_node
    nodes = layout.tp_groups * ceil(layout.tp / size)
    group = NodeGroup(gpu.name.lower(), gpu, nodes, size)
    try:
        return spread_of(layout, group, "auto")
    except RefusedError:
        # We would not plan so wide a TP group, but the row tells of one that ran.
        return Spread(layout, group, across_nodes=layout.tp > size)


def memory_fields(memory: RankMemory, *, tokens: int) -> dict[str, Any]:
    """What is said of memory; it fits where one request of `tokens` tokens can be held."""
    return {
        "predicted_weights_gib_per_gpu": memory.weight_bytes / GIB,
        "predicted_kv_gib_per_gpu": max(0.0, memory.kv_bytes / GIB),
        "predicted_kv_tokens": max(0, memory.kv_tokens),
        "predicted_fits": memory.fits(tokens),
    }
