"""What was measured, as a table for people and as data for a file."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from rich.table import Table

from benchmarks.front.summary import BARE, METRICS, Cell, Target, ratio
from benchmarks.front.workloads import Workload


def table(load: Workload, medians: Mapping[tuple[str, int], Cell]) -> Table:
    """Every server for each metric and number of streams, and the ratios to the bare one."""
    names = list(dict.fromkeys(name for name, _ in medians))
    others = [name for name in names if name != BARE]
    made = Table("streams", "metric", *names, title=f"{load.model}, medians")
    for name in others:
        made.add_column(f"{name} / bare")
    for streams in load.requests:
        bare = medians[BARE, streams]
        for metric in METRICS:
            cells = [f"{getattr(medians[name, streams], metric):.4f}" for name in names]
            ratios = [f"{ratio(medians[name, streams], bare, metric):.2f}" for name in others]
            made.add_row(str(streams), metric, *cells, *ratios)
        made.add_section()
    return made


def report(
    load: Workload,
    rounds: Mapping[tuple[str, int], list[Cell]],
    starts: Mapping[str, float],
    judged: tuple[Target, ...],
    idle_cpu_percent: float,
) -> dict[str, Any]:
    """Everything measured, for a file."""
    return {
        "model": load.model,
        "hardware": load.hardware,
        "engine": dict(load.engine),
        "prompt_words": load.prompt_words,
        "output_tokens": load.output_tokens,
        "spread": load.spread,
        "rate": load.rate,
        "machine": {"cpus": os.cpu_count(), "platform": platform.platform()},
        "idle_cpu_percent": idle_cpu_percent,
        "start_seconds": dict(starts),
        "cells": [
            {"server": name, "streams": streams, "rounds": [asdict(cell) for cell in cells]}
            for (name, streams), cells in rounds.items()
        ],
        "targets": [{**asdict(target), "met": target.met} for target in judged],
    }
