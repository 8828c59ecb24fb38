"""`rayserve-par evaluate`: the planner's predictions against what was measured or recommended."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rayserve_par.cli.evaluation.summary import Judged


def evaluate(
    evidence: Annotated[
        Path,
        typer.Option(
            help="Folder with any of measured_latency.jsonl, h200_engine.jsonl, "
            "measured_memory.jsonl and published_layouts.jsonl."
        ),
    ],
    configs: Annotated[Path, typer.Option(help="Folder of models: ORG--NAME/config.json.")],
    rows: Annotated[
        Path | None, typer.Option(help="Write every row with its predictions here, as JSON lines.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Predict every row of measurements without looking at what was measured, and score it."""
    from rayserve_par.cli.evaluation.evaluate import evaluate as run

    found = run(evidence, configs)
    if rows is not None:
        _write(rows, found.judged)
    if as_json:
        import json

        typer.echo(json.dumps(found.summary, indent=2))
        return
    from rayserve_par.cli.evaluation.report import render_summary
    from rayserve_par.cli.output import result_console

    result_console().print(render_summary(found.summary))


def _write(path: Path, judged: Iterable[Judged]) -> None:
    import json

    from rayserve_par.errors import RefusedError

    lines = [json.dumps(one.written) + "\n" for one in judged]
    try:
        path.write_text("".join(lines), encoding="utf-8")
    except OSError as error:
        raise RefusedError(f"--rows {path} cannot be written: {error}") from error
