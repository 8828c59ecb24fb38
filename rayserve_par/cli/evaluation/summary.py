"""The figures of an evaluation, as plain data that JSON can carry. Errors are fractions."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rayserve_par.cli.evaluation.config_folder import base_name
from rayserve_par.cli.evaluation.evidence import Kind, Row
from rayserve_par.cli.evaluation.inputs import DECODE_TABLE, PREFILL_TABLE
from rayserve_par.cli.evaluation.regret import Case, Point, cases
from rayserve_par.cli.evaluation.statistics import relative_error, spread_of_errors

_WORST_CASES = 10


@dataclass(frozen=True, slots=True)
class Judged:
    """A row with its predictions, or with `skipped`.

    `point` is what a served row is in the choice among measured layouts. `agrees` is None where
    no choice can be judged (model or GPU not known, layout not stated); `why` goes with false.
    `recommended_gpus` are those of one instance.
    """

    row: Row
    predicted: dict[str, Any]
    skipped: str | None = None
    point: Point | None = None
    agrees: bool | None = None
    recommended_gpus: int | None = None
    why: str = ""

    @property
    def written(self) -> dict[str, Any]:
        """The row as it is written out."""
        where = {"evidence_file": str(self.row.kind), "evidence_line": self.row.line}
        skipped = {} if self.skipped is None else {"skipped": self.skipped}
        return {**self.row.fields, **where, **self.predicted, **skipped}


def summarise(judged: Sequence[Judged]) -> dict[str, Any]:
    """All figures, by kind of evidence; kinds without a row are left out."""
    by_kind: defaultdict[Kind, list[Judged]] = defaultdict(list)
    for one in judged:
        by_kind[one.row.kind].append(one)
    parts: dict[Kind, tuple[str, Callable[[list[Judged]], dict[str, Any]]]] = {
        Kind.LATENCY: ("latency", _latency),
        Kind.ENGINE: ("engine", _engine),
        Kind.MEMORY: ("memory", _memory),
        Kind.LAYOUT: ("layouts", _layouts),
    }
    found: dict[str, Any] = {}
    for kind, (name, figures) in parts.items():
        if kind in by_kind:
            rows = by_kind[kind]
            skipped = Counter(_short(one.skipped) for one in rows if one.skipped is not None)
            counts = {"rows": len(rows), "skipped": dict(skipped.most_common())}
            found[name] = {**counts, **figures(rows)}
    if Kind.LATENCY in by_kind:
        points = [one.point for one in by_kind[Kind.LATENCY] if one.point is not None]
        found["choice"] = _choice(cases(points))
    return found


def _short(reason: str | None) -> str:
    """The first sentence, by which reasons are counted."""
    return (reason or "").split(". ")[0].rstrip(".")


def _usable(rows: Iterable[Judged]) -> list[Judged]:
    return [one for one in rows if one.skipped is None]


def _times(rows: Sequence[Judged]) -> dict[str, Any]:
    return {
        name: spread_of_errors(
            relative_error(one.predicted[f"predicted_{name}_ms"], one.row.fields.get(f"{name}_ms"))
            for one in rows
        )
        for name in ("tpot", "ttft")
    }


def _latency(rows: list[Judged]) -> dict[str, Any]:
    usable = _usable(rows)
    groupings: dict[str, Callable[[Mapping[str, Any]], str]] = {
        "by_family": lambda fields: base_name(fields["model"]),
        "by_engine": lambda fields: str(fields.get("engine", "")),
        "by_gpu": lambda fields: str(fields["gpu"]),
    }
    found = _times(usable)
    for name, key in groupings.items():
        groups: defaultdict[str, list[Judged]] = defaultdict(list)
        for one in usable:
            groups[key(one.row.fields)].append(one)
        found[name] = {label: _times(groups[label]) for label in sorted(groups)}
    not_fitting = sum(not one.predicted["predicted_fits"] for one in usable)
    return {**found, "predicted_not_to_fit": not_fitting}


def _table_errors(one: Judged, table: str) -> dict[str, float | None]:
    measured = one.row.fields.get(table) or {}
    predicted = one.predicted[f"predicted_{table}"]
    return {
        key: relative_error(predicted[key], value)
        for key, value in measured.items()
        if key in predicted
    }


def _memory_errors(one: Judged) -> dict[str, float | None]:
    """Errors against whichever names of fields the row has."""
    fields, predicted = one.row.fields, one.predicted
    pairs = {
        "weights": ("predicted_weights_gib_per_gpu", ("weights_gib_per_gpu", "weights_gib")),
        "kv_gib": ("predicted_kv_gib_per_gpu", ("kv_gib_per_gpu", "kv_gib")),
        "kv_tokens": ("predicted_kv_tokens", ("kv_tokens",)),
    }
    return {
        name: relative_error(
            predicted[ours], next((fields[k] for k in theirs if k in fields), None)
        )
        for name, (ours, theirs) in pairs.items()
    }


def _start_ups(rows: list[Judged]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """One line per engine, and figures over all of them."""
    lines = [
        {
            "name": str(one.row.fields.get("name") or one.row.fields["model"]),
            "fits": one.predicted["predicted_fits"],
            **_memory_errors(one),
            "tpot_by_batch": _table_errors(one, DECODE_TABLE),
            "prefill_by_prompt": _table_errors(one, PREFILL_TABLE),
        }
        for one in _usable(rows)
    ]
    over_all = {key: spread_of_errors(line[key] for line in lines) for key in _MEMORY_FIGURES}
    return lines, {**over_all, "fit": sum(line["fits"] for line in lines)}


_MEMORY_FIGURES = ("weights", "kv_gib", "kv_tokens")


def _engine(rows: list[Judged]) -> dict[str, Any]:
    lines, figures = _start_ups(rows)
    return {
        **figures,
        "tpot": spread_of_errors(e for line in lines for e in line["tpot_by_batch"].values()),
        "tpot_by_batch": _by_key(lines, "tpot_by_batch"),
        "prefill": spread_of_errors(
            e for line in lines for e in line["prefill_by_prompt"].values()
        ),
        "engines": lines,
    }


def _by_key(lines: Sequence[Mapping[str, Any]], table: str) -> dict[str, Any]:
    """The spread of errors for each key of a table, over all engines."""
    errors: defaultdict[str, list[float | None]] = defaultdict(list)
    for line in lines:
        for key, error in line[table].items():
            errors[key].append(error)
    return {key: spread_of_errors(errors[key]) for key in sorted(errors, key=int)}


def _memory(rows: list[Judged]) -> dict[str, Any]:
    lines, figures = _start_ups(rows)
    return {**figures, "engines": lines}


def _choice(found: list[Case]) -> dict[str, Any]:
    worst = sorted(found, key=lambda case: -case.regret)[:_WORST_CASES]
    return {
        "groups": len({case.group for case in found}),
        "cases": len(found),
        "mean_regret": sum(case.regret for case in found) / len(found) if found else None,
        "top_1": sum(case.regret <= 0 for case in found) / len(found) if found else None,
        "worst": [
            {
                "group": list(case.group),
                "tpot_limit_ms": case.limit_ms,
                "ours": case.ours.label,
                "best": case.best.label,
                "regret": case.regret,
            }
            for case in worst
            if case.regret > 0
        ],
    }


def _layouts(rows: list[Judged]) -> dict[str, Any]:
    judged = [one for one in rows if one.agrees is not None]
    agreed = sum(bool(one.agrees) for one in judged)
    return {
        "judged": len(judged),
        "agreed": agreed,
        "agreement": agreed / len(judged) if judged else None,
        "disagreements": [_disagreement(one) for one in judged if not one.agrees],
    }


def _disagreement(one: Judged) -> dict[str, Any]:
    fields = one.row.fields
    names = ("model", "precision", "hardware", "nodes", "goal", "tp", "pp", "dp", "ep", "gpus_used")
    return {
        "line": one.row.line,
        **{name: fields.get(name) for name in names},
        "recommended_gpus": one.recommended_gpus,
        "chosen_layout": one.predicted.get("chosen_layout"),
        "chosen_gpus": one.predicted.get("chosen_gpus"),
        "why": one.why,
    }
