"""Traces of torch's profiler summed up by what ran, and the tables of layouts."""

from __future__ import annotations

import gzip
import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks.gpu.layout_tables import layouts_table, steps_table
from benchmarks.gpu.ledger import Ledger, Record, Status
from benchmarks.gpu.machine import logical_machine
from benchmarks.gpu.prediction import TPOT, Compared, EngineResult
from benchmarks.gpu.step_trace import (
    StepTimes,
    covered,
    is_communication,
    read_trace,
    step_times,
)
from rayserve_par.planning import Layout

DATA = Path(__file__).resolve().parents[3] / "docs/data/h200"


def ran(name: str, begin_us: float, us: float, cat: str = "kernel") -> dict[str, Any]:
    return {"ph": "X", "cat": cat, "name": name, "ts": begin_us, "dur": us}


GEMM = "nvjet_tst_128x64_64x9_4x1_v_bz_TNT"
REDUCE = "void vllm::cross_device_reduce_1stage<__nv_bfloat16, 2>"
HOP = "ncclDevKernel_SendRecv(ncclDevKernelArgsStorage<4096ul>)"


@pytest.mark.parametrize(
    ("name", "told"),
    [
        (REDUCE, True),
        ("ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)", True),
        ("ncclDevKernel_AllGather_RING_LL", True),
        ("ncclDevKernel_ReduceScatter_Sum_bf16_RING_LL", True),
        ("void flashinfer::trtllm_allreduce_fusion::allreduce_fusion_kernel_oneshot_lamport", True),
        ("void multimem_all_reduce_kernel<c10::BFloat16, 16>", True),
        ("void deep_ep::internode_ll::dispatch<true, 3, 10, 7168>", True),
        ("c10d::allreduce_", True),
        ("_C::shm_allreduce", True),
        (HOP, False),
        (GEMM, False),
        ("void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float>>", False),
        ("void at::native::vectorized_gather_kernel<16, long>", False),
        ("void cutlass::device_kernel<flash::FlashAttnFwdSm90>", False),
        ("fused_moe_kernel", False),
    ],
)
def test_kernels_that_move_data_between_ranks_are_known(name: str, told: bool) -> None:
    assert is_communication(name) is told


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [([], 0), ([(0, 2), (1, 3)], 3), ([(0, 5), (1, 2)], 5), ([(4, 5), (0, 1)], 2)],
)
def test_time_that_several_kernels_share_counts_once(
    intervals: list[tuple[float, float]], seconds: float
) -> None:
    assert covered(intervals) == seconds


def test_a_rank_s_time_by_what_ran(tmp_path: Path) -> None:
    file = tmp_path / "decode.json.gz"
    events = [
        ran(GEMM, 1000, 100),
        ran(REDUCE, 1100, 20),
        ran(REDUCE, 1150, 50),
        ran(GEMM, 1190, 30),  # 10 us beside the collective
        ran(HOP, 1300, 200),
        ran("aten::mm", 0, 9000, "cpu_op"),
        {"ph": "M", "name": "process_name"},
    ]
    with gzip.open(file, "wt") as text:
        json.dump({"traceEvents": events}, text)
    found = step_times(read_trace(file))
    expected = StepTimes(500e-6, 390e-6, 70e-6, 200e-6, 260e-6)
    assert asdict(found) == pytest.approx(asdict(expected))


def test_on_logical_gpus_operators_stand_in() -> None:
    found = step_times([ran("aten::mm", 0, 10, "cpu_op"), ran("c10d::allreduce_", 10, 5, "cpu_op")])
    assert found.communication_seconds == pytest.approx(5e-6)
    with pytest.raises(ValueError, match="no kernel"):
        step_times([ran("step", 0, 10, "user_annotation")])


def engine(layout: Layout, *tpots: tuple[int, float, float]) -> EngineResult:
    times = tuple(Compared(TPOT, size, found, told, None) for size, found, told in tpots)
    return EngineResult("org/Model", layout, times)


def test_layouts_are_set_against_one_gpu() -> None:
    one = engine(Layout(tp=1), (1, 10e-3, 10e-3), (128, 40e-3, 40e-3))
    two = engine(Layout(tp=2), (1, 6e-3, 5e-3), (128, 25e-3, 20e-3))
    assert layouts_table([one]) == ""
    last = layouts_table([one, two]).splitlines()[-1]
    # 128 / 25 ms over two GPUs, against 128 / 40 ms on one.
    assert last == "| Model TP2 | 0.60 / 0.50 | 0.62 / 0.50 | 0.80 / 1.00 at 128 |"


def test_the_predicted_share_stands_beside_the_measured_one() -> None:
    record = next(iter(Ledger(DATA).records().values()))
    rank = asdict(StepTimes(40e-3, 30e-3, 6e-3, 0.0, 6e-3))
    result = {
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "layout": {"tp": 2, "pp": 1, "dp": 1, "ep": 1},
        "prompt_tokens": 1024,
        "batches": [{"batch": 1, "steps": 10, "ranks": [rank, rank]}],
    }
    made = Record("steps-x", Status.DONE, record.machine, "", result=result)
    cells = steps_table([made]).splitlines()[-1].split(" | ")
    assert cells[2:7] == ["3.00", "0.600", "0.000", "20.0%", "20.0%"]
    assert 0 < float(cells[7].strip(" |%")) < 50
    logical = replace(made, machine=logical_machine())
    assert steps_table([logical]).endswith("| - |")
