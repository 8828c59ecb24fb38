"""Llama-3.1-8B on one H100, as the tests of decisions and of the simulator see it."""

from functools import cache

from rayserve_par.control.instance_model.capacity import InstanceModel
from rayserve_par.control.instance_model.step_times import StepTimes
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.hardware.catalogue import gpu_by_name
from rayserve_par.model.known import known_model
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.performance import Predictor, predictor

TTFT, TPOT = 2.0, 0.05
LIMITS = EngineLimits(kv_tokens=434_288, max_num_seqs=1024, max_num_batched_tokens=1536)


@cache
def llama(tp: int = 1) -> Predictor:
    model = known_model("meta-llama/Llama-3.1-8B-Instruct")
    return predictor(model, gpu_by_name("H100"), Layout(tp=tp))


@cache
def times() -> StepTimes:
    return StepTimes(llama())


@cache
def instance_model() -> InstanceModel:
    return InstanceModel(
        times(),
        kv_tokens=LIMITS.kv_tokens,
        max_num_seqs=LIMITS.max_num_seqs,
        max_num_batched_tokens=LIMITS.max_num_batched_tokens,
        ttft_limit=TTFT,
        tpot_limit=TPOT,
    )
