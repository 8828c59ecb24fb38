"""Seconds of one pass over all layers, from its work, the hardware and the constants.

    roofline(a, b)  = (a^p + b^p)^(1/p)       memory and compute overlap, but not wholly
    dense           = roofline(bytes / (HBM x e_hbm), peak seconds / e_gemm)
    experts         = roofline(bytes / (HBM x e_expert_hbm), peak seconds / e_expert_gemm)
                      x (1 + imbalance x (1 - 1 / EP))
    attention       = roofline(KV bytes / (HBM x e_kv), peak seconds / e_gemm)
                      + state bytes / (HBM x e_kv)
    all-reduce      = 2 (1 - 1/r) x (t_reduce x g + message / (link x e_link))     each
    exchange        = 2 (1 - 1/r) x  t_reduce x g + (1 - 1/r) x exchanged / (link x e_link)   each
                      + share that leaves the node x exchanged / NIC
    hop             = t_reduce x g + message / NIC                      between PP stages
    launch          = kernels x t_kernel x g
    host            = t_step + sequences x t_sequence                   by engine

g is 1, or newer_gpu_ratio on Blackwell. A prefill pass is bound by launching as well: its time is
roofline(dense + experts + attention + communication, kernels x t_prefill_kernel).
Only operators are used on numbers, so that the fitting script may pass arrays in their place.
"""

from dataclasses import dataclass

from rayserve_par.hardware.gpu import Gpu
from rayserve_par.planning.performance.constants import Constants, EngineConstants
from rayserve_par.planning.performance.work import PassWork

_NEWER_GENERATIONS = ("blackwell",)


@dataclass(frozen=True, slots=True)
class RankSpeed:
    """What the data sheet says of a rank, in bytes per second and one direction.

    `newer` is 1 for a generation after Hopper, else 0. `leaving_share` is how much of an exchange
    between experts goes to other nodes.
    """

    hbm: float
    link: float
    nic: float
    newer: float
    leaving_share: float = 0.0


def rank_speed(
    gpu: Gpu, *, stages_share_a_node: bool = False, nodes_per_stage: int = 1
) -> RankSpeed:
    """The speeds of one rank on `gpu`; stages on one node talk over its links, not the NIC.

    `nodes_per_stage` counts what joins the ranks of a stage by NICs only: nodes, or NVLink domains.
    """
    return RankSpeed(
        hbm=gpu.hbm_bytes_per_second,
        link=gpu.link_bytes_per_second,
        nic=gpu.link_bytes_per_second if stages_share_a_node else gpu.nic_bytes_per_second,
        newer=float(any(name in gpu.generation.lower() for name in _NEWER_GENERATIONS)),
        leaving_share=1 - 1 / nodes_per_stage,
    )


@dataclass(frozen=True, slots=True)
class PassTime:
    """Seconds of one pass by cause; they add up."""

    dense: float
    experts: float
    attention: float
    communication: float
    launch: float
    host: float

    @property
    def work(self) -> float:
        """Seconds in which the GPU or a link is busy."""
        return self.dense + self.experts + self.attention + self.communication

    @property
    def total(self) -> float:
        """Seconds of the whole pass."""
        return self.work + self.launch + self.host


def roofline(memory_seconds: float, compute_seconds: float, power: float) -> float:
    """Memory and compute side by side: between their maximum and their sum."""
    total: float = (memory_seconds**power + compute_seconds**power) ** (1 / power)
    return total


def _generation_ratio(speed: RankSpeed, constants: Constants) -> float:
    return 1 + speed.newer * (constants.newer_gpu_ratio - 1)


def communication_seconds(work: PassWork, speed: RankSpeed, constants: Constants) -> float:
    """All-reduces, exchanges between experts, and hops between stages."""
    reduce_share = 1 - 1 / work.all_reduce_ranks
    expert_share = 1 - 1 / work.expert_ranks
    wire = work.message_bytes / (speed.link * constants.link_efficiency)
    start = constants.reduce_seconds * _generation_ratio(speed, constants)
    reduce = 2 * reduce_share * (start + wire)
    gathered = work.exchange_bytes / (speed.link * constants.link_efficiency)
    leaving = speed.leaving_share * work.exchange_bytes / speed.nic
    exchange = expert_share * (2 * start + gathered) + leaving
    hop = start + work.message_bytes / speed.nic
    return work.all_reduces * reduce + work.expert_exchanges * exchange + work.stage_hops * hop


def _experts(work: PassWork, speed: RankSpeed, constants: Constants) -> float:
    widened = 1 + work.experts_emulated * (1 / constants.emulated_efficiency - 1)
    rate = speed.hbm * constants.expert_hbm_efficiency
    memory = widened * work.expert_bytes / rate
    compute = work.expert_peak_seconds / constants.expert_gemm_efficiency
    busiest = 1 + constants.expert_imbalance * (1 - 1 / work.expert_groups)
    return busiest * roofline(memory, compute, constants.roofline_power)


def pass_time(
    work: PassWork, speed: RankSpeed, constants: Constants, engine: EngineConstants
) -> PassTime:
    """Seconds of one pass by cause, launched as a decode step is."""
    power = constants.roofline_power
    kv_rate = speed.hbm * constants.kv_hbm_efficiency
    dense_memory = work.dense_bytes / (speed.hbm * constants.hbm_efficiency)
    dense_compute = work.dense_peak_seconds / constants.gemm_efficiency
    attention_compute = work.attention_peak_seconds / constants.gemm_efficiency
    return PassTime(
        dense=roofline(dense_memory, dense_compute, power),
        experts=_experts(work, speed, constants),
        attention=roofline(work.kv_bytes / kv_rate, attention_compute, power)
        + work.state_bytes / kv_rate,
        communication=communication_seconds(work, speed, constants),
        launch=work.kernels * engine.kernel_seconds * _generation_ratio(speed, constants),
        host=engine.step_seconds + work.sequences * engine.sequence_seconds,
    )


def prefill_seconds_of(work: PassWork, time: PassTime, constants: Constants) -> float:
    """Seconds of a prefill pass: its work, or the launching of its kernels where that is longer."""
    least = work.kernels * constants.prefill_kernel_seconds
    return roofline(time.work, least, constants.roofline_power)
