"""What a rank needs beside weights and KV cache, in named parts.

    reserve = max(forward + exchange, encoder, sampling)     activations.py
              + counters + runtime + collectives + CUDA graphs

    runtime      code of kernels and their stacks, cuBLAS workspaces: 0.175 GiB before vLLM 0.20,
                 0.95 GiB from 0.20 (PyTorch 2.11, CUDA 13)
    collectives  NCCL, where the budget includes it (before 0.12): 0.4 GiB x log2(tp), as measured
                 at TP 2; the growth with tp is assumed
    graphs       0.1 GiB + 8 MiB x graphs, where the budget includes them; none on a CPU

The budget begins at the engine's first snapshot of memory: the driver's context before it is in
what gpu_memory_utilization leaves, and so are graphs and NCCL where they are not counted. Stages
before the last do not sample; only the first runs the encoder (all of them before runner V2).

The constants are what is left of the engines' logs after the parts above: runtime of vLLM 0.11 on
H100 0.13 GiB outside torch and 45 MiB inside, of 0.25 on H200 0.91 to 0.97 GiB for three engines
whose graphs are not counted; NCCL from Qwen3-32B at TP 2 against TP 1; graphs 0.33 to 0.60 GiB for
54 of them.
Left out: what a KV connector or LoRA adapters allocate.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import log2

from rayserve_par.hardware.gpu import GIB, Gpu
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing import activations
from rayserve_par.sizing.activations import Batch
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.rank_weights import RankSplit

_RUNTIME_BYTES, _RUNTIME_BYTES_BEFORE_20 = 0.95 * GIB, 0.175 * GIB
_COLLECTIVE_BYTES = 0.4 * GIB
_GRAPHS_BYTES, _GRAPH_BYTES = 0.1 * GIB, GIB / 128


@dataclass(frozen=True, slots=True)
class Reserve:
    """Bytes of one rank beside weights and KV cache. Of the first four the largest decides."""

    forward_bytes: float
    exchange_bytes: float
    encoder_bytes: float
    sampling_bytes: float
    counter_bytes: float
    runtime_bytes: float
    collective_bytes: float
    graph_bytes: float

    @property
    def activation_bytes(self) -> float:
        """The peak of activations."""
        return max(
            self.forward_bytes + self.exchange_bytes, self.encoder_bytes, self.sampling_bytes
        )

    @property
    def total_bytes(self) -> float:
        """All of it."""
        fixed = self.counter_bytes + self.runtime_bytes
        return self.activation_bytes + fixed + self.collective_bytes + self.graph_bytes

    def lines(self) -> Iterator[str]:
        """Every part with its number; what decides is said."""
        peaks = {
            "a pass over the layers": self.forward_bytes + self.exchange_bytes,
            "the vision encoder": self.encoder_bytes,
            "sampling": self.sampling_bytes,
        }
        largest = max(peaks, key=lambda name: peaks[name])
        shown = ", ".join(f"{name} {_gib(size)}" for name, size in peaks.items() if size)
        yield f"activations = the largest of {shown}: {largest}"
        if self.exchange_bytes:
            yield f"  of which tokens gathered from all DP ranks {_gib(self.exchange_bytes)}"
        if self.counter_bytes:
            yield f"counts of tokens for penalties = {_gib(self.counter_bytes)}"
        yield f"runtime (kernels, workspaces) = {_gib(self.runtime_bytes)}"
        if self.collective_bytes:
            yield f"NCCL = {_gib(self.collective_bytes)}"
        if self.graph_bytes:
            yield f"CUDA graphs = {_gib(self.graph_bytes)}"


def _gib(size: float) -> str:
    return f"{size / GIB:.2f} GiB"


def stage_reserves(
    model: ModelSpec, gpu: Gpu, split: RankSplit, options: EngineOptions
) -> tuple[Reserve, ...]:
    """The reserve of a rank of every PP stage."""
    tokens, sequences = options.batch(gpu, model)
    batch = Batch(tokens, sequences, options.model_len(model))
    forward = activations.forward_bytes(model, split, batch)
    exchange = activations.exchange_bytes(model, split, tokens)
    encoder = activations.encoder_bytes(model, split, batch)
    times, counters = activations.FILTERED, 0.0
    if options.sorts_logits:
        times = activations.SORTED
    elif options.runner_v2(model):
        times, counters = activations.PLAIN, activations.counter_bytes(model, batch)
    sampling = activations.sampling_bytes(model, batch, times)
    runtime = _RUNTIME_BYTES if options.version >= (0, 20) else _RUNTIME_BYTES_BEFORE_20
    collective = _COLLECTIVE_BYTES * log2(split.tp) if options.nccl_in_budget else 0.0
    graphs = 0.0
    if gpu.engine_backend != "cpu" and options.graphs_in_budget(model):
        graphs = _GRAPHS_BYTES + options.graphs(sequences) * _GRAPH_BYTES
    return tuple(
        Reserve(
            forward_bytes=forward,
            exchange_bytes=exchange,
            encoder_bytes=encoder if stage == 0 or not options.runner_v2(model) else 0.0,
            sampling_bytes=sampling if stage == split.pp - 1 else 0.0,
            counter_bytes=counters if stage == split.pp - 1 else 0.0,
            runtime_bytes=runtime,
            collective_bytes=collective,
            graph_bytes=graphs,
        )
        for stage in range(split.pp)
    )
