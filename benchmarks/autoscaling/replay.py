"""The simulator against a real local cluster: one slice of a trace, both ways. `make bench-replay`

Run: python -m benchmarks.autoscaling.replay [--engine mock|tiny-llama] [--instances N]
     [--start 600] [--seconds 180] [--busy SHARE] [--tokens FACTOR] [--trace FILE] [--json FILE]

The cluster is that of `rayserve-par serve`: Ray, Serve, HAProxy with our Lua, admission, replicas.
Its engines are mock ones, whose step times are set, or vLLM with a tiny model on CPUs, whose step
times are fitted to a few probes beforehand; the time that the front adds to a lone request is
measured for both. The trace's times are stretched until steps with prompts take `--busy` of the
instances' time, its tokens multiplied by `--tokens`. The simulator gets the same arrivals and the
same number of instances. Exits with 1 if TTFT p50 or p95 differ by more than 20%.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.real_cluster import Answer, cores, probe, replay, served
from benchmarks.autoscaling.set_times import Probe, SetTimes, fitted, stretched, times_of
from rayserve_par.control.decide.baselines import Static
from rayserve_par.control.decide.decision import Policy
from rayserve_par.control.simulate.engine import EngineLimits
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.scenario import Scenario
from rayserve_par.control.simulate.simulator import Outcome, simulate
from rayserve_par.control.simulate.trace import parse_trace
from rayserve_par.serving.mock_engine.times import EngineTimes

BOUND = 0.2
MOCK = EngineTimes()
_TINY_LENGTH, _TINY_SEQUENCES, _TINY_BUDGET = 1024, 64, 512
_SEED = 7
# The simulated front sheds nothing, so the real one must not.
UNLIMITED = {"concurrency": {"mode": "off"}}


@dataclass(frozen=True, slots=True)
class Kind:
    """An engine to replay against: its config and limits; what the load is by default.

    `tokens` is the factor of prompt lengths, `busy` the share of time that steps with prompts take.
    """

    args: dict[str, Any]
    limits: EngineLimits
    longest: int
    tokens: float
    busy: float
    instances: int
    probe_isl: tuple[int, ...]


KINDS = {
    "mock": Kind(
        args={
            "model": "tiny-llama",
            "layout": {"tp": 1},
            "admission": UNLIMITED,
            "mock_engine": asdict(MOCK),
        },
        limits=EngineLimits(MOCK.kv_tokens, MOCK.max_num_seqs, MOCK.max_num_batched_tokens),
        longest=MOCK.max_model_len,
        tokens=1.0,
        busy=0.5,
        instances=2,
        probe_isl=(64, 1024),
    ),
    "tiny-llama": Kind(
        args={
            "model": "tiny-llama",
            "layout": {"tp": 1},
            "admission": UNLIMITED,
            "engine": {
                "max_model_len": _TINY_LENGTH,
                "dtype": "float32",
                "max_num_seqs": _TINY_SEQUENCES,
                "max_num_batched_tokens": _TINY_BUDGET,
            },
        },
        # 256 MiB of KV cache: far more than the slice ever holds, so a bound is not needed.
        limits=EngineLimits(1_000_000, _TINY_SEQUENCES, _TINY_BUDGET),
        longest=_TINY_LENGTH,
        tokens=0.1,
        # Its decodes take longer than its prefills, and all processes share few cores.
        busy=0.08,
        instances=1,
        probe_isl=(32, 128, 256, 480),
    ),
}


@dataclass(frozen=True, slots=True)
class Percentiles:
    """Seconds."""

    ttft_p50: float
    ttft_p95: float
    tpot_p50: float
    tpot_p95: float


def percentiles(ttft: Sequence[float], tpot: Sequence[float]) -> Percentiles:
    first, later = (quantiles(one, n=20, method="inclusive") for one in (ttft, tpot))
    return Percentiles(first[9], first[18], later[9], later[18])


def slice_of(
    arrivals: Sequence[Arrival], start: float, count: int, tokens: float, longest: int
) -> tuple[Arrival, ...]:
    """The first `count` requests from `start` on, shortened; those that are too long left out."""
    found: list[Arrival] = []
    for one in arrivals:
        isl, osl = max(1, round(one.isl * tokens)), max(2, one.osl)
        if one.seconds >= start and isl + osl < longest and len(found) < count:
            found.append(Arrival(one.seconds, isl, osl))
    if len(found) < count:
        raise SystemExit(f"The trace has {len(found)} such requests from {start:g} s on.")
    return tuple(found)


def simulated(
    arrivals: Sequence[Arrival], times: SetTimes, limits: EngineLimits, instances: int
) -> Percentiles:
    scenario = Scenario(
        times=times,
        limits=limits,
        gpus_per_instance=1,
        initial=instances,
        most=instances,
        duration_seconds=arrivals[-1].seconds + 60.0,
    )
    return simulated_with(arrivals, scenario, Static(instances))[0]


def simulated_with(
    arrivals: Sequence[Arrival], scenario: Scenario, policy: Policy
) -> tuple[Percentiles, Outcome]:
    """What the simulator makes of the arrivals under `policy`.

    Raises:
        RuntimeError: requests did not end.
    """
    outcome = simulate(scenario, policy, arrivals)
    ttft = [one.ttft_seconds for one in outcome.requests if one.ttft_seconds is not None]
    tpot = [one.tpot_seconds for one in outcome.requests if one.tpot_seconds is not None]
    if len(ttft) < len(arrivals) or len(tpot) < len(arrivals):
        raise RuntimeError(f"{len(arrivals)} requests, and only {len(tpot)} ended in simulation")
    return percentiles(ttft, tpot), outcome


def measured(answers: Sequence[Answer]) -> Percentiles:
    return percentiles([one.ttft_seconds for one in answers], [one.tpot_seconds for one in answers])


def off(real: float, simulated_value: float) -> float:
    """How far the simulator is off, as a share of the real value."""
    return simulated_value / real - 1


def table(real: Percentiles, model: Percentiles) -> str:
    """Markdown."""
    lines = ["| | cluster | simulator | off |", "|---|---|---|---|"]
    for name, label in (
        ("ttft_p50", "TTFT p50"), ("ttft_p95", "TTFT p95"),
        ("tpot_p50", "TPOT p50"), ("tpot_p95", "TPOT p95"),
    ):  # fmt: skip
        a, b = getattr(real, name), getattr(model, name)
        lines.append(f"| {label} | {1e3 * a:.1f} ms | {1e3 * b:.1f} ms | {off(a, b):+.1%} |")
    return "\n".join(lines)


async def _probed(url: str, kind: Kind, instances: int, engine: str) -> list[Probe]:
    lone = [(1, 1, isl) for isl in kind.probe_isl]
    together = [] if engine == "mock" else [(many, instances, 32) for many in (2, 4, 8)]
    return await probe(url, [*lone, *together], rounds=5)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(KINDS), default="mock")
    parser.add_argument("--instances", type=int)
    parser.add_argument("--start", type=float, default=600.0, help="seconds into the trace")
    parser.add_argument("--seconds", type=float, default=180.0, help="length of the replay")
    parser.add_argument("--busy", type=float)
    parser.add_argument("--tokens", type=float)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    kind = KINDS[args.engine]
    for name in ("instances", "busy", "tokens"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(kind, name))
    trace = parse_trace(args.trace.read_text(encoding="utf-8"), str(args.trace))
    with (
        tempfile.TemporaryDirectory() as name,
        served(kind.args, args.instances, Path(name)) as url,
    ):
        probes = asyncio.run(_probed(url, kind, args.instances, args.engine))
        times = times_of(MOCK, probes) if args.engine == "mock" else fitted(probes)
        print(f"step times: {times}", flush=True)
        arrivals, factor = _fitting(trace, args, kind, times)
        print(f"{len(arrivals)} requests over {arrivals[-1].seconds:.0f} s, times x {factor:.3f}")
        answers = asyncio.run(replay(url, arrivals, _SEED))
    real = measured(answers)
    model = simulated(arrivals, times, kind.limits, args.instances)
    late = max(one.late_seconds for one in answers)
    print(table(real, model))
    print(f"The client sent at most {1e3 * late:.0f} ms late; {cores()} cores.")
    if args.json:
        document = {
            "engine": args.engine, "instances": args.instances, "requests": len(arrivals),
            "seconds": arrivals[-1].seconds, "busy": args.busy, "times": asdict(times),
            "probes": [asdict(one) for one in probes], "cluster": asdict(real),
            "simulator": asdict(model), "latest_send_seconds": late, "cores": cores(),
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")
    worst = max(abs(off(real.ttft_p50, model.ttft_p50)), abs(off(real.ttft_p95, model.ttft_p95)))
    sys.exit(worst > BOUND)


def _fitting(
    trace: Sequence[Arrival], args: argparse.Namespace, kind: Kind, times: SetTimes
) -> tuple[tuple[Arrival, ...], float]:
    """As many requests as take `--seconds` when stretched to `--busy`."""
    usable = slice_of(trace, args.start, 500, args.tokens, kind.longest)
    each = sum(times.mixed(one.isl, 0, 0, 0) for one in usable) / len(usable)
    count = max(20, int(args.seconds * args.instances * args.busy / each))
    return stretched(
        slice_of(trace, args.start, count, args.tokens, kind.longest),
        times,
        args.instances,
        args.busy,
    )


if __name__ == "__main__":
    main()
