"""The tables and plots of docs/h200.md, and the table of docs/accuracy.md, from a results folder.

Run: python -m benchmarks.gpu.report --results docs/data/h200 [--docs docs/h200.md]
     [--accuracy docs/accuracy.md]

Without --docs and --accuracy the text is printed. Plots are written into the results folder.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.gpu.charts import memory_chart, tpot_chart
from benchmarks.gpu.layout_tables import layouts_table, steps_table
from benchmarks.gpu.ledger import Ledger, Record, Status
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.prediction import EngineResult, engine_result, profile_result
from benchmarks.gpu.tables import (
    error_table,
    memory_table,
    parts_table,
    product_table,
    recovery_table,
    times_table,
    tokens_table,
)
from benchmarks.reliability.table import put_between_marks
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import Profile
from rayserve_par.hardware.profile_json import profile_from_json

BEGIN = "<!-- made by `python -m benchmarks.gpu.report`: begin -->"
END = "<!-- made by `python -m benchmarks.gpu.report`: end -->"
_TPOT_CHART, _MEMORY_CHART = "tpot.svg", "recovery.svg"

Records = Mapping[str, Record]


def done(records: Records, first: str) -> list[Record]:
    """The parts that are done and whose name begins so, in the order of the parts."""
    order = [part.name for part in PARTS if part.name.startswith(first) and part.name in records]
    return [records[name] for name in order if records[name].status is Status.DONE]


def profile_of(records: Records) -> Profile | None:
    """The profile of the part `calibrate`; None where it was not measured."""
    for record in done(records, "calibrate"):
        return profile_from_json(json.dumps(record.result["profile"]))
    return None


def engine_results(records: Records) -> list[EngineResult]:
    """Every engine that was measured, the profile's own run first."""
    profile = profile_of(records)
    found = [engine_result(record, profile) for record in done(records, "engine-")]
    if profile is not None:
        machine = done(records, "calibrate")[0].machine
        own = [profile_result(run, machine, profile) for run in profile.engine_runs]
        found = [*own, *found]
    return found


def accuracy_text(records: Records) -> str:
    """What docs/accuracy.md shows: memory, times, errors before and after calibration."""
    results = engine_results(records)
    return "\n\n".join((memory_table(results), times_table(results), error_table(results)))


def report_text(records: Records, charts: str) -> str:
    """What docs/h200.md shows; `charts` is the folder of the plots as the page links it."""
    # What was skipped on a machine without GPUs may lie beside what ran on one that has them.
    machine = next(iter(done(records, "") or records.values())).machine
    software = ", ".join(f"{name} {release}" for name, release in machine.software.items())
    parts = [
        f"{machine.gpus} x {machine.gpu} ({machine.memory_mib:,} MiB each, driver "
        f"{machine.driver}), {machine.cpus} CPU cores; {software}.",
        "### What was run",
        parts_table(records, machine),
    ]
    results = engine_results(records)
    if results:
        parts += ["### Engines against the plan", accuracy_text(records)]
        parts += [f"![TPOT by batch]({charts}/{_TPOT_CHART})"]
        compared = layouts_table(results)
        parts += ["### Layouts against one GPU", compared] if compared else []
    for title, first, table in (
        ("### Where a decode step's time goes", "steps-", steps_table),
        ("### The product beside bare vLLM", "product-", product_table),
        ("### An engine killed", "recovery-", recovery_table),
        ("### The same tokens", "tokens-", tokens_table),
    ):
        if done(records, first):
            parts += [title, table(done(records, first))]
        if first == "recovery-" and _sampled(records) is not None:
            parts += [f"![GPU memory around the kill]({charts}/{_MEMORY_CHART})"]
    return "\n\n".join(parts)


def _sampled(records: Records) -> Record | None:
    """The first recovery whose memory was sampled."""
    found = [r for r in done(records, "recovery-") if r.result.get("used_mib_by_seconds")]
    return found[0] if found else None


def write_charts(records: Records, folder: Path) -> None:
    """The plots, as far as there is anything to plot."""
    results = engine_results(records)
    if results:
        _write(folder / _TPOT_CHART, tpot_chart(results))
    sampled = _sampled(records)
    if sampled is not None:
        samples = [(float(at), int(mib)) for at, mib in sampled.result["used_mib_by_seconds"]]
        again = float(sampled.result["served_again_seconds"])
        _write(folder / _MEMORY_CHART, memory_chart(samples, again))


def _write(file: Path, text: str) -> None:
    file.write_text(f"{text}\n", encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--results", type=Path, default=Path("docs/data/h200"))
    parser.add_argument("--docs", type=Path, help="put the report between this page's marks")
    parser.add_argument("--accuracy", type=Path, help="put the accuracy between this page's marks")
    args = parser.parse_args(arguments)
    records = Ledger(args.results).records()
    if not records:
        raise RefusedError(
            f"--results {args.results} holds no results. Run python -m benchmarks.gpu first."
        )
    write_charts(records, args.results)
    page: Path = args.docs or Path()
    link = Path(os.path.relpath(args.results, page.parent)).as_posix()
    report = report_text(records, link)
    if not args.docs and not args.accuracy:
        print(report)
    texts = ((args.docs, report), (args.accuracy, accuracy_text(records)))
    for file, text in texts:
        if file:
            before = file.read_text(encoding="utf-8")
            file.write_text(put_between_marks(before, text, BEGIN, END), encoding="utf-8")


if __name__ == "__main__":
    main()
