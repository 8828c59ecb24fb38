"""The simulator against a real local cluster: one slice of a trace, both ways.

Run: python -m benchmarks.autoscaling.replay [--engine mock|tiny-llama] [--instances N]
     [--start SECONDS ...] [--warm-up SECONDS ...] [--seconds LENGTH] [--busy SHARE]
     [--tokens FACTOR] [--trace FILE] [--json FILE]
     python -m benchmarks.autoscaling.replay --recorded FILE   a run's JSON, fitted and judged anew

The cluster is that of `rayserve-par serve`: Ray, Serve, HAProxy with our Lua, admission, replicas.
Its engines are mock ones, whose step times are set, or vLLM with a tiny model on CPUs. Of the mock
ones only what the front adds to a lone request is measured beforehand. Of vLLM nothing is known:
probes give a first idea, and the step times are fitted to warm-ups, the slices of the trace from
each `--warm-up` on (fit_to_replay.py). Then the slice from each `--start` on is replayed and
judged. A slice's times are stretched until steps with prompts take `--busy` of the instances' time,
its tokens multiplied by `--tokens`. The simulator gets the same arrivals and the same number of
instances. Exits with 1 if TTFT p50 or p95 differ by more than 20% in any judged slice.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.autoscaling.__main__ import TRACE
from benchmarks.autoscaling.engine_kinds import KINDS, MOCK, Kind
from benchmarks.autoscaling.fit_to_replay import Latencies, fitted_to
from benchmarks.autoscaling.latency import latencies, off, percentiles, simulated, table
from benchmarks.autoscaling.real_cluster import cores, probe, replay, served
from benchmarks.autoscaling.set_times import Probe, SetTimes, fitted, stretched, times_of
from rayserve_par.control.simulate.request import Arrival
from rayserve_par.control.simulate.trace import parse_trace

BOUND = 0.2
_SEED = 7


@dataclass(frozen=True, slots=True)
class Replayed:
    """A slice of the trace from `start` on as it was sent, and what the cluster made of it."""

    start: float
    arrivals: tuple[Arrival, ...]
    ttft_seconds: tuple[float, ...]
    tpot_seconds: tuple[float, ...]
    latest_send_seconds: float

    @property
    def latencies(self) -> Latencies:
        """TTFT and TPOT of every request."""
        return self.ttft_seconds, self.tpot_seconds

    def as_object(self) -> dict[str, Any]:
        """As JSON, rounded to what a clock of ours can tell."""
        return {
            "start": self.start,
            "latest_send_seconds": self.latest_send_seconds,
            "arrivals": [[round(one.seconds, 4), one.isl, one.osl] for one in self.arrivals],
            "ttft_seconds": [round(one, 5) for one in self.ttft_seconds],
            "tpot_seconds": [round(one, 6) for one in self.tpot_seconds],
        }

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Replayed:
        """The reverse of `as_object`."""
        return cls(
            start=found["start"],
            arrivals=tuple(Arrival(*one) for one in found["arrivals"]),
            ttft_seconds=tuple(found["ttft_seconds"]),
            tpot_seconds=tuple(found["tpot_seconds"]),
            latest_send_seconds=found["latest_send_seconds"],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """All that a run of the cluster gave. There are no warm-ups where the times are set."""

    engine: str
    instances: int
    cores: int
    by_probes: SetTimes
    warm_ups: tuple[Replayed, ...]
    judged: tuple[Replayed, ...]

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        return {
            "engine": self.engine,
            "instances": self.instances,
            "cores": self.cores,
            "by_probes": asdict(self.by_probes),
            "warm_ups": [one.as_object() for one in self.warm_ups],
            "judged": [one.as_object() for one in self.judged],
        }

    @classmethod
    def from_object(cls, found: Mapping[str, Any]) -> Run:
        """The reverse of `as_object`."""
        return cls(
            engine=found["engine"],
            instances=found["instances"],
            cores=found["cores"],
            by_probes=SetTimes(**found["by_probes"]),
            warm_ups=tuple(Replayed.from_object(one) for one in found["warm_ups"]),
            judged=tuple(Replayed.from_object(one) for one in found["judged"]),
        )


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


async def _probed(url: str, kind: Kind, instances: int, engine: str) -> list[Probe]:
    lone = [(1, 1, isl) for isl in kind.probe_isl]
    together = [] if engine == "mock" else [(many, instances, 32) for many in (2, 4, 8)]
    return await probe(url, [*lone, *together], rounds=5)


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


def run_cluster(args: argparse.Namespace) -> Run:
    """Start the cluster, probe it, replay warm-ups where there are any, and the slices."""
    kind = KINDS[args.engine]
    trace = parse_trace(args.trace.read_text(encoding="utf-8"), str(args.trace))
    with (
        tempfile.TemporaryDirectory() as name,
        served(kind.args, args.instances, Path(name)) as url,
    ):
        probes = asyncio.run(_probed(url, kind, args.instances, args.engine))
        times = times_of(MOCK, probes) if args.engine == "mock" else fitted(probes)

        def replayed(start: float) -> Replayed:
            arrivals = _slice(trace, start, args, kind, times)
            answers = asyncio.run(replay(url, arrivals, _SEED))
            return Replayed(
                start=start,
                arrivals=arrivals,
                ttft_seconds=tuple(one.ttft_seconds for one in answers),
                tpot_seconds=tuple(one.tpot_seconds for one in answers),
                latest_send_seconds=max(one.late_seconds for one in answers),
            )

        warm_ups = tuple(replayed(start) for start in args.warm_ups)
        judged = tuple(replayed(start) for start in args.starts)
    return Run(args.engine, args.instances, cores(), times, warm_ups, judged)


def times_for(run: Run) -> SetTimes:
    """The times that are set, or those that fit the warm-ups best."""
    if not run.warm_ups:
        return run.by_probes

    def simulation(of: Replayed) -> Callable[[SetTimes], Latencies]:
        return lambda one: latencies(of.arrivals, one, KINDS[run.engine].limits, run.instances)

    times, away = fitted_to(
        [one.latencies for one in run.warm_ups],
        [simulation(one) for one in run.warm_ups],
        run.by_probes,
    )
    print(f"by the probes: {run.by_probes}\nfitted to the warm-ups: {times}")
    print(f"In these they are {away / 2:.1%} off on average:")
    for one in run.warm_ups:
        _shown(one, times, run)
    print("Judged:")
    return times


def _shown(replayed: Replayed, times: SetTimes, run: Run) -> float:
    """Print the table of a slice; how far TTFT is off at the worst."""
    real = percentiles(*replayed.latencies)
    model = simulated(replayed.arrivals, times, KINDS[run.engine].limits, run.instances)
    print(
        f"from {replayed.start:g} s on, {len(replayed.arrivals)} requests in "
        f"{replayed.arrivals[-1].seconds:.0f} s, sent at most "
        f"{1e3 * replayed.latest_send_seconds:.0f} ms late, {run.cores} cores:"
    )
    print(table(real, model), flush=True)
    return max(abs(off(real.ttft_p50, model.ttft_p50)), abs(off(real.ttft_p95, model.ttft_p95)))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--engine", choices=sorted(KINDS), default="mock")
    parser.add_argument("--instances", type=int)
    parser.add_argument("--start", dest="starts", type=float, nargs="+", help="into the trace")
    parser.add_argument("--warm-up", dest="warm_ups", type=float, nargs="+", help="as --start")
    parser.add_argument("--seconds", type=float, help="length of a slice's replay")
    parser.add_argument("--busy", type=float)
    parser.add_argument("--tokens", type=float)
    parser.add_argument("--trace", type=Path, default=TRACE)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--recorded", type=Path)
    args = parser.parse_args()
    for name in ("instances", "starts", "warm_ups", "seconds", "busy", "tokens"):
        if getattr(args, name) is None:
            setattr(args, name, getattr(KINDS[args.engine], name))
    return args


def main() -> None:
    args = _arguments()
    if args.recorded:
        run = Run.from_object(json.loads(args.recorded.read_text(encoding="utf-8")))
    else:
        run = run_cluster(args)
    if args.json:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(run.as_object()), encoding="utf-8")
    times = times_for(run)
    sys.exit(max(_shown(one, times, run) for one in run.judged) > BOUND)


if __name__ == "__main__":
    main()
