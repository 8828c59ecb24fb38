"""Every scenario on one local cluster of two instances under load, with figures and targets.

Run: python -m benchmarks.reliability [SCENARIO ...] [--json FILE] [--docs docs/reliability.md]
Exits with 1 if a target is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import sys
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from types import FrameType
from typing import Any

from rich.console import Console

from benchmarks.reliability.bench import Bench, start_bench
from benchmarks.reliability.haproxy import LogReceiver
from benchmarks.reliability.scenario import Result, Scenario, run_scenario
from benchmarks.reliability.scenarios import scenarios_by_name, two_instances
from benchmarks.reliability.table import put_between_marks, reasons, table
from rayserve_par.cli.stages import stage

_READY_SECONDS = 300.0


def run_all(console: Console, chosen: Sequence[Scenario], log: LogReceiver) -> Generator[Result]:
    """Run the scenarios one after another on one cluster; anew where one did not recover."""
    bench, gpus_per_node = None, 0
    with ExitStack() as stack:
        for scenario in chosen:
            if bench is None or gpus_per_node != scenario.tp:
                stack.close()
                # One instance on each node, so that a lost node is one lost instance.
                gpus_per_node = scenario.tp
                bench = stack.enter_context(start_bench(console, gpus_per_node=gpus_per_node))
            make_ready(bench, scenario)
            with stage(console, scenario.title):
                result = run_scenario(bench, scenario, log)
            yield result
            if result.recovery_seconds is None:
                bench = None


def make_ready(bench: Bench, scenario: Scenario) -> None:
    """Deploy what the scenario is about, unless it is, and wait until every instance serves.

    Raises:
        RuntimeError: they did not in time.
    """
    args = two_instances(scenario.tp, scenario.slots)
    if bench.args != args or bench.scaled_to is not None:
        bench.deploy(args)
    if not bench.wait_until_serving(_READY_SECONDS):
        raise RuntimeError(f"not every instance serves before {scenario.name}")


def show(console: Console, result: Result) -> None:
    """Print one scenario's figures."""
    document = result.document()
    document.pop("targets")
    console.print(json.dumps(document), soft_wrap=True, markup=False)
    for target in result.targets:
        console.print(f"  {'met   ' if target.met else 'MISSED'} {target}", markup=False)


def report(results: Sequence[Result]) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "retried_source": "HAProxy's log: answered requests with a retry count above 0",
        "scenarios": [result.document() for result in results],
    }


def write(json_file: Path, results: Sequence[Result]) -> None:
    """Write the report to a file, in a folder that may be new."""
    json_file.parent.mkdir(parents=True, exist_ok=True)
    json_file.write_text(f"{json.dumps(report(results), indent=2)}\n", encoding="utf-8")


def run(console: Console, chosen: Sequence[Scenario], json_file: Path, docs: Path | None) -> bool:
    """Run, print and write; whether every target is met."""
    with LogReceiver() as log:
        # Read by Serve when its processes start; they inherit this process's environment.
        os.environ["RAY_SERVE_HAPROXY_LOG_TARGET"] = log.target
        results = []
        with closing(run_all(console, chosen, log)) as running:
            for result in running:
                show(console, result)
                results.append(result)
                # After each, so that a run that is stopped leaves what it measured.
                write(json_file, results)
    text = f"{table(results)}\n\n{reasons(results)}"
    console.print(text, soft_wrap=True, markup=False)
    if docs is not None:
        document = docs.read_text(encoding="utf-8")
        docs.write_text(put_between_marks(document, text), encoding="utf-8")
    return all(result.met for result in results)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scenarios", nargs="*", help="by name; all without any")
    parser.add_argument("--json", type=Path, default=Path("build/reliability.json"))
    parser.add_argument("--docs", type=Path, help="put the table into this document")
    args = parser.parse_args()
    try:
        chosen = scenarios_by_name(args.scenarios)
    except ValueError as error:
        parser.error(str(error))
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    console = Console(highlight=False)
    try:
        met = run(console, chosen, args.json, args.docs)
    except KeyboardInterrupt:
        console.print("Stopped.")
        sys.exit(130)
    sys.exit(0 if met else 1)


def _interrupt(_signal: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
