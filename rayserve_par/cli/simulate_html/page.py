"""The page itself: results as a table, instances over time, and what missed the target when."""

from __future__ import annotations

from importlib.resources import files
from typing import TYPE_CHECKING

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from rayserve_par.cli.simulate_html.time_chart import Band, Line, time_chart
from rayserve_par.cli.simulate_view import COLUMNS, Results, note, rows

if TYPE_CHECKING:
    from rayserve_par.cli.simulate_inputs import Made

_TEMPLATE = "page.html.j2"
_BIN_SECONDS = 10


def page(made: Made, results: Results) -> str:
    """The page of these results."""
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    source = files(__package__).joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return environment.from_string(source).render(
        title=made.plan.model_name,
        lines=made.lines,
        columns=COLUMNS,
        rows=rows(results),
        note=note(made.workload, results),
        instances=_instances(made, results),
        missed=_missed(made, results),
        has_oracle=results.oracle is not None,
        events=results.ours.scale_events,
    )


def _bands(made: Made) -> list[Band]:
    start = made.workload.scenario.start_seconds
    return [Band(one, one + start, "unannounced step") for one in made.workload.steps]


def _instances(made: Made, results: Results) -> Markup:
    work, samples = made.workload.work, results.outcome.samples
    load = [
        (float(second), sum(work[second : second + _BIN_SECONDS]) / _BIN_SECONDS)
        for second in range(0, len(work) - 1, _BIN_SECONDS)
    ]
    ready = [(one.seconds, float(one.ready)) for one in samples]
    held = [(one.seconds, float(one.ready + one.starting + one.draining)) for one in samples]
    lines = [
        Line("load", "load", load),
        Line("starting, ready and draining", "held", held, steps=True),
        Line("ready", "ready", ready, steps=True),
    ]
    if results.oracle is not None:
        known = [(one.seconds, float(one.ready)) for one in results.oracle.outcome.samples]
        lines.append(Line("oracle", "oracle", known, steps=True))
    seconds = made.workload.scenario.duration_seconds
    return time_chart("Instances over time", "instances", seconds, lines, _bands(made))


def _missed(made: Made, results: Results) -> Markup:
    scenario = made.workload.scenario
    bins = int(scenario.duration_seconds // _BIN_SECONDS) + 1
    missed = [0.0] * bins
    for one in results.outcome.requests:
        if not one.meets(scenario.ttft_limit, scenario.tpot_limit):
            missed[min(bins - 1, int(one.arrival // _BIN_SECONDS))] += 1
    points = [(float(index * _BIN_SECONDS), value) for index, value in enumerate(missed)]
    line = Line("requests that missed the target", "missed", points, steps=True)
    unit = f"requests of {_BIN_SECONDS} s that missed the target"
    return time_chart(
        "Requests that missed the target", unit, scenario.duration_seconds, [line], _bands(made)
    )
