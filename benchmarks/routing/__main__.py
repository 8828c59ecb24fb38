"""A chat trace behind the real HAProxy, once for each routing policy. `make bench-routing`

Run: python -m benchmarks.routing [--seconds 60] [--instances 4] [--json FILE] [--markdown FILE]

Each policy gets new engines, a new HAProxy and the same trace: one whose system prompts are popular
by Zipf's law and one where a single prompt has most conversations. The load comes from a process of
its own. Beside what was measured stands the SIMULATION of the same trace without HTTP: round robin
and power of two choices as a check of it, and Ray Serve LLM's prefix router, which only it can run.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psutil

from benchmarks.routing.engines import Engine, mock_engines
from benchmarks.routing.figures import Asked, Figures, figures, markdown
from benchmarks.routing.proxy import haproxy
from benchmarks.routing.serve_prefix_router import serve_prefix_router
from benchmarks.routing.simulate import (
    SAMPLE_SECONDS,
    Policy,
    Simulation,
    power_of_two,
    round_robin,
)
from benchmarks.routing.trace import TraceShape, make_trace
from rayserve_par.serving.mock_engine.times import EngineTimes

# About what a popular prompt needs to stay cached on every instance, and too little for all.
TIMES = EngineTimes(kv_blocks=1536)
SHAPES = {
    "shared prompts": TraceShape(conversations_per_second=5.0),
    "one prompt dominates": TraceShape(conversations_per_second=5.0, dominant_share=0.6),
}
WARM_UP_SHARE = 1 / 6
REFERENCES = ("round-robin", "power-of-two")
SIMULATED_REFERENCES = ("round robin", "power of two")


@dataclass(frozen=True, slots=True)
class Measured:
    """A policy as it is measured: HAProxy's variable, and whether clients name their sessions."""

    routing: str
    sessions: bool = False


POLICIES = {
    "round-robin": Measured("round-robin"),
    "power-of-two": Measured("power-of-two"),
    "least-loaded": Measured("least-loaded"),
    "prefix": Measured("prefix"),
    "prefix + session": Measured("prefix", sessions=True),
}


def simulated_policies(instances: int, seed: int) -> dict[str, Policy]:
    """New policies of the simulation."""
    return {
        "round robin": round_robin(),
        "power of two": power_of_two(seed),
        "Serve LLM's prefix router": serve_prefix_router(instances, seed),
        "the same, imbalanced_threshold 10": serve_prefix_router(instances, seed, 10.0),
    }


def measure(policy: Measured, shape: TraceShape, instances: int, seed: int) -> Figures:
    """Replay the trace of (shape, seed) once."""
    with (
        tempfile.TemporaryDirectory() as name,
        mock_engines(instances, TIMES, Path(name)) as engines,
        haproxy(
            [engine.port for engine in engines],
            Path(name),
            {"RAYSERVE_PAR_ROUTING": policy.routing},
        ) as proxy,
    ):
        command = [sys.executable, "-m", "benchmarks.routing.replay", proxy.url]
        command += [json.dumps(asdict(shape)), str(seed)]
        command += ["--sessions"] if policy.sessions else []
        result = Path(name) / "asked.json"
        with result.open("wb") as output, subprocess.Popen(command, stdout=output) as client:
            samples = _sample_until_end(engines, client)
        asked = [Asked(**one) for one in json.loads(result.read_bytes())]
        prefix = [
            (status["prefix_hit_tokens"], status["prefix_query_tokens"])
            for status in (engine.status() for engine in engines)
        ]
    return figures(asked, prefix, samples, shape.seconds * WARM_UP_SHARE)


def _sample_until_end(engines: list[Engine], client: subprocess.Popen[bytes]) -> list[list[int]]:
    samples = []
    while client.poll() is None:
        statuses = [engine.status() for engine in engines]
        samples.append([status["running"] + status["waiting"] for status in statuses])
        time.sleep(SAMPLE_SECONDS)
    return samples


def simulate(shape: TraceShape, instances: int, seed: int) -> dict[str, Figures]:
    """The simulated policies on the trace of (shape, seed)."""
    trace = make_trace(shape, seed)
    return {
        name: Simulation(instances, TIMES, policy).run(trace, shape.seconds * WARM_UP_SHARE)
        for name, policy in simulated_policies(instances, seed).items()
    }


def report(
    measured: Mapping[str, Mapping[str, Figures]], simulated: Mapping[str, Mapping[str, Figures]]
) -> str:
    """The tables, one for each trace and world."""
    parts = []
    for shape, table in measured.items():
        parts += [f"### {shape}", "", markdown(table, REFERENCES), ""]
        simulation = markdown(simulated[shape], SIMULATED_REFERENCES)
        parts += ["Simulation of the same trace (no HTTP, no proxy):", "", simulation, ""]
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--instances", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--policies", nargs="*", default=list(POLICIES), choices=list(POLICIES))
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    args = parser.parse_args()
    measured: dict[str, dict[str, Figures]] = {}
    simulated: dict[str, dict[str, Figures]] = {}
    for name, default in SHAPES.items():
        shape = replace(default, seconds=args.seconds)
        simulated[name] = simulate(shape, args.instances, args.seed)
        measured[name] = {}
        for policy in args.policies:
            psutil.cpu_percent()
            measured[name][policy] = measure(POLICIES[policy], shape, args.instances, args.seed)
            print(f"{name}, {policy}: {measured[name][policy]}, machine {psutil.cpu_percent()}%")
    text = report(measured, simulated)
    print(text)
    if args.markdown:
        args.markdown.parent.mkdir(parents=True, exist_ok=True)
        args.markdown.write_text(text, encoding="utf-8")
    if args.json:
        document = {
            "machine": {"cpus": psutil.cpu_count(), "platform": platform.platform()},
            "instances": args.instances,
            "seed": args.seed,
            "times": asdict(TIMES),
            "shapes": {name: asdict(shape) for name, shape in SHAPES.items()},
            "measured": {n: {p: asdict(f) for p, f in t.items()} for n, t in measured.items()},
            "simulated": {n: {p: asdict(f) for p, f in t.items()} for n, t in simulated.items()},
        }
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_text(json.dumps(document, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
