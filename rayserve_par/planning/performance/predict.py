"""Predicted latency and throughput of one instance: the public face of the performance model.

    tokens per second = DP ranks x running streams x OSL / (TTFT + (OSL - 1) x TPOT)

With PP, the streams of a DP rank pass the stages in PP micro-batches, so a step takes the time of
C / PP sequences over all stages; a prompt still crosses all stages, but the next one follows as
soon as the first stage is free, so others feel only 1 / PP of it.
"""

from dataclasses import dataclass

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model.spec import ModelSpec
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.performance.constants import Constants, shipped_constants
from rayserve_par.planning.performance.rank_load import RankLoad, rank_load
from rayserve_par.planning.performance.steady_state import SteadyState, steady_state
from rayserve_par.planning.performance.step import (
    PassTime,
    RankSpeed,
    pass_time,
    prefill_seconds_of,
    rank_speed,
)
from rayserve_par.planning.performance.work import pass_work


@dataclass(frozen=True, slots=True)
class OperatingPoint:
    """One instance with `streams` concurrent requests. Seconds, and tokens per second.

    `running` of the streams are in the batch; the rest wait for KV memory.
    """

    streams: float
    running: float
    gpus: int
    ttft_seconds: float
    tpot_seconds: float
    tokens_per_second: float
    requests_per_second: float
    prefill_seconds: float
    decode: PassTime

    @property
    def tokens_per_second_per_gpu(self) -> float:
        """Output tokens per second and GPU."""
        return self.tokens_per_second / self.gpus

    @property
    def tokens_per_second_per_user(self) -> float:
        """What one stream sees after its first token."""
        return 1 / self.tpot_seconds


@dataclass(frozen=True, slots=True)
class Predictor:
    """The model, GPU, layout and engine of one instance, with its load worked out once."""

    load: RankLoad
    speed: RankSpeed
    constants: Constants
    engine: str

    def _state(self, wanted: float, running: float, isl: float, osl: float) -> SteadyState:
        pp = self.load.layout.pp
        batch = max(1.0, running / pp)
        decode = pass_work(self.load, sequences=batch, new_tokens=1, context_tokens=isl + osl / 2)
        prompt = pass_work(self.load, sequences=1, new_tokens=isl, context_tokens=isl)
        return steady_state(
            decode,
            prompt,
            streams=batch * wanted / running,
            running=batch,
            output_tokens=osl,
            speed=self.speed,
            constants=self.constants,
            engine=self.constants.engine(self.engine),
        )

    def at(
        self, *, isl: float, osl: float, streams: float, kv_tokens: float | None = None
    ) -> OperatingPoint:
        """The instance with `streams` requests of `isl` prompt and `osl` output tokens.

        `kv_tokens` of one DP rank bound what runs at once; None leaves it unbounded.
        Raises RefusedError for lengths or streams below 1.
        """
        if min(isl, osl, streams) < 1:
            raise RefusedError(
                f"ISL {isl:g}, OSL {osl:g} and {streams:g} streams must all be at least 1."
            )
        layout = self.load.layout
        wanted = max(1.0, streams / layout.dp)
        running = wanted
        if kv_tokens is not None:
            running = min(wanted, max(1.0, kv_tokens / (isl + osl)))
        state = self._state(wanted, running, isl, osl)
        request_seconds = state.ttft_seconds + (osl - 1) * state.tpot_seconds
        requests = streams / request_seconds
        return OperatingPoint(
            streams=streams,
            running=running * layout.dp,
            gpus=layout.gpus,
            ttft_seconds=state.ttft_seconds,
            tpot_seconds=state.tpot_seconds,
            tokens_per_second=requests * osl,
            requests_per_second=requests,
            prefill_seconds=state.prefill_seconds,
            decode=state.decode,
        )

    def decode_time(self, *, batch: float, context_tokens: float) -> PassTime:
        """One step of `batch` sequences of the instance, each at `context_tokens`."""
        layout = self.load.layout
        work = pass_work(
            self.load,
            sequences=max(1.0, batch / layout.dp / layout.pp),
            new_tokens=1,
            context_tokens=context_tokens,
        )
        return pass_time(work, self.speed, self.constants, self.constants.engine(self.engine))

    def prefill_seconds(self, prompt_tokens: float) -> float:
        """The prefill of one prompt, alone on the instance."""
        work = pass_work(
            self.load, sequences=1, new_tokens=prompt_tokens, context_tokens=prompt_tokens
        )
        engine = self.constants.engine(self.engine)
        time = pass_time(work, self.speed, self.constants, engine)
        return prefill_seconds_of(work, time, self.constants)


def predictor(
    model: ModelSpec,
    gpu: Gpu,
    layout: Layout,
    *,
    engine: str = "vllm",
    kv_cache_bits: float | None = None,
    stages_share_a_node: bool = False,
    nodes_per_stage: int = 1,
    constants: Constants | None = None,
) -> Predictor:
    """A predictor for one layout; speeds as `rank_speed`, `constants` those shipped by default."""
    return Predictor(
        load=rank_load(model, gpu, layout, kv_cache_bits),
        speed=rank_speed(
            gpu, stages_share_a_node=stages_share_a_node, nodes_per_stage=nodes_per_stage
        ),
        constants=constants or shipped_constants(),
        engine=engine,
    )


def predict(
    model: ModelSpec,
    gpu: Gpu,
    layout: Layout,
    *,
    isl: float,
    osl: float,
    streams: float,
    engine: str = "vllm",
    kv_tokens: float | None = None,
    constants: Constants | None = None,
) -> OperatingPoint:
    """Latency and throughput of one instance with `streams` concurrent requests."""
    found = predictor(model, gpu, layout, engine=engine, constants=constants)
    return found.at(isl=isl, osl=osl, streams=streams, kv_tokens=kv_tokens)


def decode_seconds(
    model: ModelSpec,
    gpu: Gpu,
    layout: Layout,
    *,
    batch: float,
    context_tokens: float,
    engine: str = "vllm",
) -> float:
    """Seconds of one decode step of `batch` sequences."""
    found = predictor(model, gpu, layout, engine=engine)
    return found.decode_time(batch=batch, context_tokens=context_tokens).total


def prefill_seconds(
    model: ModelSpec, gpu: Gpu, layout: Layout, *, prompt_tokens: float, engine: str = "vllm"
) -> float:
    """Seconds of the prefill of one prompt, alone on the instance."""
    return predictor(model, gpu, layout, engine=engine).prefill_seconds(prompt_tokens)
