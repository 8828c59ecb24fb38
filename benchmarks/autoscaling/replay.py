"""The simulator against a real local cluster: one slice of a trace, both ways. `make bench-replay`

Run: python -m benchmarks.autoscaling.replay [--engine mock|tiny-llama] [--instances N]
     [--start SECONDS ...] [--warm-up SECONDS] [--seconds LENGTH] [--busy SHARE] [--tokens FACTOR]
     [--trace FILE] [--json FILE]

The cluster is that of `rayserve-par serve`: Ray, Serve, HAProxy with our Lua, admission, replicas.
Its engines are mock ones, whose step times are set, or vLLM with a tiny model on CPUs. Of the mock
ones only what the front adds to a lone request is measured beforehand. Of vLLM nothing is known:
probes give a first idea, and the step times are fitted to a warm-up, the slice of the trace from
`--warm-up` on (fit_to_replay.py). Then each slice from a `--start` on is replayed and judged. A
slice's times are stretched until steps with prompts take `--busy` of the instances' time, its
tokens multiplied by `--tokens`. The simulator gets the same arrivals and the same number of
instances. Exits with 1 if TTFT p50 or p95 differ by more than 20% in any judged slice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import quantiles
from typing import Any

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.fit_to_replay import Latencies, fitted_to
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

    `tokens` is the factor of prompt lengths, `busy` the share of time that steps with prompts take,
    `warm_up` where in the trace the slice begins that times are fitted to, where they are not set.
    """

    args: dict[str, Any]
    limits: EngineLimits
    longest: int
    tokens: float
    busy: float
    instances: int
    probe_isl: tuple[int, ...]
    seconds: float
    starts: tuple[float, ...] = (600.0,)
    warm_up: float | None = None


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
        seconds=180.0,
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
        seconds=64.0,
        starts=(600.0, 2100.0),
        warm_up=900.0,
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
    """What the simulator makes of the arrivals on so many instances."""
    return percentiles(*latencies(arrivals, times, limits, instances))


def latencies(
    arrivals: Sequence[Arrival], times: SetTimes, limits: EngineLimits, instances: int
) -> Latencies:
    """TTFT and TPOT of every request in simulation, in no order."""
    each = times.front_seconds_per_token
    late = sorted(replace(one, seconds=one.seconds + each * one.isl) for one in arrivals)
    scenario = Scenario(
        times=times,
        limits=limits,
        gpus_per_instance=1,
        initial=instances,
        most=instances,
        interval_seconds=60.0,
        duration_seconds=late[-1].seconds + 60.0,
    )
    outcome = _ended(simulate(scenario, Static(instances), late))
    return [(one.ttft_seconds or 0.0) + each * one.isl for one in outcome.requests], [
        one.tpot_seconds or 0.0 for one in outcome.requests
    ]


def simulated_with(
    arrivals: Sequence[Arrival], scenario: Scenario, policy: Policy
) -> tuple[Percentiles, Outcome]:
    """What the simulator makes of the arrivals under `policy`.

    Raises:
        RuntimeError: requests did not end.
    """
    outcome = _ended(simulate(scenario, policy, arrivals))
    ttft = [one.ttft_seconds or 0.0 for one in outcome.requests]
    return percentiles(ttft, [one.tpot_seconds or 0.0 for one in outcome.requests]), outcome


def _ended(outcome: Outcome) -> Outcome:
    ended = sum(one.tpot_seconds is not None for one in outcome.requests)
    if ended < len(outcome.requests):
        raise RuntimeError(
            f"{len(outcome.requests)} requests, and only {ended} ended in simulation"
        )
    return outcome


def measured(answers: Sequence[Answer]) -> Percentiles:
    return percentiles(*_latencies_of(answers))


def _latencies_of(answers: Sequence[Answer]) -> Latencies:
    return [one.ttft_seconds for one in answers], [one.tpot_seconds for one in answers]


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


def _warmed_up(
    url: str, trace: Sequence[Arrival], args: argparse.Namespace, kind: Kind, begin: SetTimes
) -> tuple[SetTimes, dict[str, Any]]:
    """The times that fit the warm-up best, and what there is to say about it."""
    arrivals = _slice(trace, args.warm_up, args, kind, begin)
    answers = asyncio.run(replay(url, arrivals, _SEED))
    times, away = fitted_to(
        _latencies_of(answers),
        lambda one: latencies(arrivals, one, kind.limits, args.instances),
        begin,
    )
    real, model = measured(answers), simulated(arrivals, times, kind.limits, args.instances)
    print(f"fitted to the warm-up: {times}, on average {away / 2:.1%} off in it", flush=True)
    print(table(real, model), flush=True)
    return times, _record(args.warm_up, arrivals, answers, real, model)


def _judged(
    url: str, trace: Sequence[Arrival], start: float, args: argparse.Namespace, times: SetTimes,
    pace: SetTimes,
) -> tuple[float, dict[str, Any]]:  # fmt: skip
    """How far TTFT is off at the worst in this slice, and what there is to say about it."""
    kind = KINDS[args.engine]
    arrivals = _slice(trace, start, args, kind, pace)
    answers = asyncio.run(replay(url, arrivals, _SEED))
    real, model = measured(answers), simulated(arrivals, times, kind.limits, args.instances)
    print(table(real, model), flush=True)
    record = _record(start, arrivals, answers, real, model)
    print(f"The client sent at most {1e3 * record['latest_send_seconds']:.0f} ms late.", flush=True)
    return max(
        abs(off(real.ttft_p50, model.ttft_p50)), abs(off(real.ttft_p95, model.ttft_p95))
    ), record


def _record(
    start: float,
    arrivals: Sequence[Arrival],
    answers: Sequence[Answer],
    real: Percentiles,
    model: Percentiles,
) -> dict[str, Any]:
    return {
        "start": start, "requests": len(arrivals), "seconds": arrivals[-1].seconds,
        "cluster": asdict(real), "simulator": asdict(model),
        "latest_send_seconds": max(one.late_seconds for one in answers),
        "arrivals": [[round(one.seconds, 4), one.isl, one.osl] for one in arrivals],
        "ttft_seconds": [round(one.ttft_seconds, 5) for one in answers],
        "tpot_seconds": [round(one.tpot_seconds, 6) for one in answers],
    }  # fmt: skip


def _slice(
    trace: Sequence[Arrival], start: float, args: argparse.Namespace, kind: Kind, pace: SetTimes
) -> tuple[Arrival, ...]:
    """As many requests as take `--seconds` when stretched to `--busy`."""
    usable = slice_of(trace, start, 500, args.tokens, kind.longest)
    each = sum(pace.mixed(one.isl, 0, 0, 0) for one in usable) / len(usable)
    count = max(20, int(args.seconds * args.instances * args.busy / each))
    found, factor = stretched(
        slice_of(trace, start, count, args.tokens, kind.longest), pace, args.instances, args.busy
    )
    print(
        f"from {start:g} s on: {count} requests over {found[-1].seconds:.0f} s, times x "
        f"{factor:.3f}",
        flush=True,
    )
    return found


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(KINDS), default="mock")
    parser.add_argument("--instances", type=int)
    parser.add_argument("--start", dest="starts", type=float, nargs="+", help="into the trace")
    parser.add_argument("--warm-up", type=float, help="seconds into the trace")
    parser.add_argument("--seconds", type=float, help="length of a slice's replay")
    parser.add_argument("--busy", type=float)
    parser.add_argument("--tokens", type=float)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path)
    args = parser.parse_args()
    for name in ("instances", "starts", "warm_up", "seconds", "busy", "tokens"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(KINDS[args.engine], name))
    return args


def main() -> None:
    args = _arguments()
    kind = KINDS[args.engine]
    trace = parse_trace(args.trace.read_text(encoding="utf-8"), str(args.trace))
    with (
        tempfile.TemporaryDirectory() as name,
        served(kind.args, args.instances, Path(name)) as url,
    ):
        probes = asyncio.run(_probed(url, kind, args.instances, args.engine))
        pace = times = times_of(MOCK, probes) if args.engine == "mock" else fitted(probes)
        print(f"step times by the probes: {times}", flush=True)
        warm_up = None
        if args.warm_up is not None:
            times, warm_up = _warmed_up(url, trace, args, kind, times)
        judged = [_judged(url, trace, start, args, times, pace) for start in args.starts]
    if args.json:
        document = {
            "engine": args.engine, "instances": args.instances, "busy": args.busy,
            "probes": [asdict(one) for one in probes], "by_probes": asdict(pace),
            "times": asdict(times), "cores": cores(), "warm_up": warm_up,
            "judged": [one for _, one in judged],
        }  # fmt: skip
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document), encoding="utf-8")
    sys.exit(max(worst for worst, _ in judged) > BOUND)


if __name__ == "__main__":
    main()
