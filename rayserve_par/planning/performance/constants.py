"""The fitted constants of the performance model: physical names, none belongs to a model.

`constants.json` holds the values with their provenance; scripts/fit_performance.py writes it.
Efficiencies are shares of the data sheet's figure, times are seconds.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import files
from typing import Any


@dataclass(frozen=True, slots=True)
class EngineConstants:
    """What differs between engines.

    kernel_seconds       launch and idle edges of one kernel in a decode step
    step_seconds         scheduling, sampling and synchronisation of one step
    sequence_seconds     the same per running request
    admission_steps      decode steps that pass before a new request's prefill begins
    wave_share           share of the other streams' prefills that a new request waits for
    """

    kernel_seconds: float
    step_seconds: float
    sequence_seconds: float
    admission_steps: float
    wave_share: float


@dataclass(frozen=True, slots=True)
class Constants:
    """All constants: those of hardware and kernels, and those of each engine.

    hbm_efficiency            weights that every token uses
    expert_hbm_efficiency     weights of routed experts
    kv_hbm_efficiency         KV cache and recurrent state
    gemm_efficiency           matrix products, dense and of attention
    expert_gemm_efficiency    grouped products of routed experts
    emulated_efficiency       expert weights in a format that the GPU has no units for
    expert_imbalance          how much longer the busiest of many expert groups works
    roofline_power            sharpness of the bend between memory and compute
    reduce_seconds            start of a collective
    link_efficiency           bandwidth of a collective's large messages
    newer_gpu_ratio           launch and collective starts on Blackwell against Hopper
    prefill_kernel_seconds    least time of one kernel of a prefill pass
    interference              how much of a prefill the running streams feel
    first_token_seconds       HTTP, tokenization and detokenization before the first token
    """

    hbm_efficiency: float
    expert_hbm_efficiency: float
    kv_hbm_efficiency: float
    gemm_efficiency: float
    expert_gemm_efficiency: float
    emulated_efficiency: float
    expert_imbalance: float
    roofline_power: float
    reduce_seconds: float
    link_efficiency: float
    newer_gpu_ratio: float
    prefill_kernel_seconds: float
    interference: float
    first_token_seconds: float
    engines: Mapping[str, EngineConstants]

    def engine(self, name: str) -> EngineConstants:
        """The constants of this engine; vLLM's for one that was never measured."""
        return self.engines.get(name, self.engines["vllm"])

    @property
    def count(self) -> int:
        """How many numbers were fitted or set in all."""
        own = len(fields(self)) - 1
        return own + sum(len(fields(engine)) for engine in self.engines.values())


@dataclass(frozen=True, slots=True)
class TypicalError:
    """Median absolute relative errors of models that the constants were fitted without."""

    tpot: float
    ttft: float


def constants_from_mapping(values: Mapping[str, Any]) -> Constants:
    """Constants from the parsed `constants` object of constants.json."""
    engines = {name: EngineConstants(**entry) for name, entry in values["engines"].items()}
    return Constants(**{**values, "engines": engines})


@cache
def _shipped() -> dict[str, Any]:
    text = files(__package__).joinpath("constants.json").read_text(encoding="utf-8")
    found: dict[str, Any] = json.loads(text)
    return found


@cache
def shipped_constants() -> Constants:
    """The constants that come with the package."""
    return constants_from_mapping(_shipped()["constants"])


@cache
def shipped_error() -> TypicalError:
    """How far off the shipped constants were on models left out of their fit."""
    return TypicalError(**_shipped()["cross_validated_median_error"])
