"""Fits the constants of the performance model to a folder of measurements.

    python -m scripts.fit_performance --evidence DIR --configs DIR                    writes them
    python -m scripts.fit_performance --evidence DIR --configs DIR --cross-validate   prints errors

Rows: measured_latency.jsonl (exact repetitions once) and the decode steps of h200_engine.jsonl.
Loss: Cauchy on the logarithm of predicted / measured, so that odd rows (a first run, a cap on
concurrency, prefix-cache hits) lose their say instead of being deleted; plus a wide prior on each
constant. First all constants against TPOT and, lightly, TTFT; then those that only TTFT knows.
Cross-validation: every model family is predicted by constants fitted without it.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from rayserve_par.cli.evaluation.config_folder import ConfigFolder, base_name
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.planning.layout import Layout
from rayserve_par.planning.performance.constants import Constants, EngineConstants
from rayserve_par.planning.performance.rank_load import rank_load
from rayserve_par.planning.performance.steady_state import SteadyState, steady_state
from rayserve_par.planning.performance.step import RankSpeed, rank_speed
from rayserve_par.planning.performance.work import PassWork, pass_work
from rayserve_par.sizing import RankSplit, worst_rank_memory

ENGINES = ("vllm", "sglang", "trtllm")
TARGET = Path(__file__).resolve().parents[1] / "rayserve_par/planning/performance/constants.json"
ROOFLINE_POWER = 3.0
ENGINE_ROW_WEIGHT = 3.0  # a measured step of one engine says more than a served average
TTFT_WEIGHT = 0.2

# Value expected before looking, and the factor (as a logarithm) by which it may well be off.
PRIORS = {
    "hbm_efficiency": (0.85, 0.1),
    "expert_hbm_efficiency": (0.75, 0.2),
    "kv_hbm_efficiency": (0.75, 0.2),
    "gemm_efficiency": (0.65, 0.2),
    "expert_gemm_efficiency": (0.45, 0.3),
    "emulated_efficiency": (0.7, 0.3),
    "expert_imbalance": (0.3, 0.5),
    "reduce_seconds": (8e-6, 0.5),
    "link_efficiency": (0.6, 0.4),
    "newer_gpu_ratio": (0.7, 0.3),
    "prefill_kernel_seconds": (15e-6, 0.6),
    "interference": (0.95, 0.2),
    "first_token_seconds": (20e-3, 0.7),
}
ENGINE_PRIORS = {
    "kernel_seconds": (2.5e-6, 0.4),
    "step_seconds": (0.6e-3, 0.7),
    "sequence_seconds": (6e-6, 0.8),
    "admission_steps": (5.0, 1.0),
    "wave_share": (0.15, 0.5),
}
TTFT_ONLY = ("first_token_seconds", "admission_steps", "wave_share")

NAMES = [*PRIORS, *(f"{engine}.{name}" for engine in ENGINES for name in ENGINE_PRIORS)]
MEAN = np.log(
    [v[0] for v in PRIORS.values()] + [v[0] for _ in ENGINES for v in ENGINE_PRIORS.values()]
)
WIDTH = np.array(
    [v[1] for v in PRIORS.values()] + [v[1] for _ in ENGINES for v in ENGINE_PRIORS.values()]
)
PRIOR_WEIGHT = 0.2
ROW_SCALE = 0.05  # logarithmic error above which a row begins to lose its say


@dataclass(frozen=True)
class Rows:
    """Everything the fit needs, one array entry per row."""

    families: np.ndarray
    is_served: np.ndarray
    engines: Mapping[str, np.ndarray]
    decode: Any
    prefill: Any
    speed: Any
    streams: np.ndarray
    running: np.ndarray
    output_tokens: np.ndarray
    tpot: np.ndarray
    ttft: np.ndarray
    prompt_seconds: np.ndarray

    def __len__(self) -> int:
        return len(self.tpot)


class _Stack:
    """The fields of many alike records as arrays."""

    def __init__(self, kind: type, records: Sequence[Any]) -> None:
        for field in fields(kind):
            setattr(self, field.name, np.array([getattr(r, field.name) for r in records]))


def _records(evidence: Path) -> list[dict[str, Any]]:
    found, seen = [], set()
    for line in (evidence / "measured_latency.jsonl").read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        key = json.dumps({k: v for k, v in row.items() if k != "id"}, sort_keys=True)
        if key not in seen:
            seen.add(key)
            found.append({**row, "served": True})
    path = evidence / "h200_engine.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        row = json.loads(line)
        ranks = row["tp"] if row["ep"] else 1
        # The longest prompt: in a short one, the offline engine's own host time weighs too much.
        prompt, prompt_seconds = max(
            (int(n), seconds) for n, seconds in row["prefill_s_by_prompt_tokens"].items()
        )
        for batch, seconds in row["tpot_s_by_batch_at_1024_prompt"].items():
            shape = {"isl": 1024, "osl": 64, "concurrency": int(batch), "tp": row["tp"]}
            shape |= {"prompt": prompt}
            engine = {"engine": "vllm", "gpu": row["gpu"], "precision": row["precision"]}
            split = {"attention_dp": 1, "moe_ep": ranks, "model": row["model"]}
            times = {"tpot_ms": 1e3 * seconds, "ttft_ms": float("nan"), "served": False}
            times["prompt_seconds"] = prompt_seconds
            found.append({**shape, **engine, **split, **times})
    return found


def read_rows(evidence: Path, configs: Path) -> Rows:
    """Rows whose model and GPU are known; the others are named on stderr."""
    folder = ConfigFolder(configs)
    kept, decodes, prefills, speeds = [], [], [], []
    for row in _records(evidence):
        try:
            model = folder.spec(row["model"], row["precision"])
            gpu = gpu_by_name(row["gpu"])
        except RefusedError as error:
            print(f"left out: {error}", file=sys.stderr)
            continue
        dp = row["attention_dp"]
        ep = max(1, row.get("moe_ep") or 1) if model.is_moe else 1
        load = rank_load(model, gpu, Layout(tp=row["tp"], dp=dp, ep=ep))
        context, streams = row["isl"] + row["osl"] / 2, max(1.0, row["concurrency"] / dp)
        memory = worst_rank_memory(model, gpu, RankSplit(tp=row["tp"], dp=dp, ep=ep))
        room = memory.kv_tokens / (row["isl"] + row["osl"])
        running = min(streams, room) if room >= 1 else streams
        decodes.append(pass_work(load, sequences=running, new_tokens=1, context_tokens=context))
        tokens = row.get("prompt", row["isl"])
        prompt = {"new_tokens": tokens, "context_tokens": tokens}
        prefills.append(pass_work(load, sequences=1, **prompt))
        speeds.append(rank_speed(gpu))
        kept.append(
            {**row, "streams": streams, "running": running, "family": base_name(row["model"])}
        )

    def column(name: str) -> np.ndarray:
        return np.array([row.get(name, np.nan) for row in kept], dtype=float)

    return Rows(
        families=np.array([_family(row["family"]) for row in kept]),
        is_served=np.array([row["served"] for row in kept]),
        engines={e: np.array([float(row["engine"] == e) for row in kept]) for e in ENGINES},
        decode=_Stack(PassWork, decodes),
        prefill=_Stack(PassWork, prefills),
        speed=_Stack(RankSpeed, speeds),
        streams=column("streams"),
        running=column("running"),
        output_tokens=column("osl"),
        tpot=column("tpot_ms") / 1e3,
        ttft=column("ttft_ms") / 1e3,
        prompt_seconds=column("prompt_seconds"),
    )


def _family(base: str) -> str:
    """Releases with the same architecture and size are one family."""
    return {"deepseek-v3.1": "deepseek-v3", "deepseek-r1": "deepseek-v3"}.get(base, base)


def constants_of(values: np.ndarray) -> Constants:
    """Constants from a vector of logarithms in the order of NAMES."""
    named = dict(zip(NAMES, np.exp(values).tolist(), strict=True))
    engines = {e: EngineConstants(**{n: named[f"{e}.{n}"] for n in ENGINE_PRIORS}) for e in ENGINES}
    return Constants(
        **{name: named[name] for name in PRIORS}, roofline_power=ROOFLINE_POWER, engines=engines
    )


def predicted(values: np.ndarray, rows: Rows) -> SteadyState:
    """The model's answer for all rows at once."""
    constants = constants_of(values)
    mixed: Any = EngineConstants(
        **{
            name: sum(getattr(constants.engines[e], name) * rows.engines[e] for e in ENGINES)
            for name in ENGINE_PRIORS
        }
    )
    # A bare engine's step has no prefills between: as if outputs had no end.
    output: Any = np.where(rows.is_served, rows.output_tokens, 1e12)
    streams: Any = rows.streams
    running: Any = rows.running
    return steady_state(
        rows.decode,
        rows.prefill,
        streams=streams,
        running=running,
        output_tokens=output,
        speed=rows.speed,
        constants=constants,
        engine=mixed,
    )


def robust(priors: int) -> Callable[[np.ndarray], np.ndarray]:
    """Cauchy's loss for rows, the plain square for the priors that follow them."""

    def loss(squares: np.ndarray) -> np.ndarray:
        found = np.array([np.log1p(squares), 1 / (1 + squares), -1 / (1 + squares) ** 2])
        found[0, -priors:], found[1, -priors:], found[2, -priors:] = squares[-priors:], 1, 0
        return found

    return loss


def fit(rows: Rows, use: np.ndarray) -> np.ndarray:
    """Logarithms of the constants fitted to the rows where `use` is true."""
    served, engine = use & rows.is_served, use & ~rows.is_served
    weight = np.where(rows.is_served, 1.0, ENGINE_ROW_WEIGHT)[use]
    ttft_only = np.array([name.split(".")[-1] in TTFT_ONLY for name in NAMES])

    def all_residuals(values: np.ndarray) -> np.ndarray:
        state = predicted(values, rows)
        tpot = np.log(state.tpot_seconds / rows.tpot)[use] * weight
        ttft = np.log(state.ttft_seconds / rows.ttft)[served] * TTFT_WEIGHT
        prompt = np.log(state.prefill_seconds / rows.prompt_seconds)[engine]
        return np.concatenate([tpot, ttft, prompt, (values - MEAN) / WIDTH * PRIOR_WEIGHT])

    loss = robust(len(NAMES))
    first = least_squares(all_residuals, MEAN, loss=loss, f_scale=ROW_SCALE, max_nfev=200).x

    def ttft_residuals(part: np.ndarray) -> np.ndarray:
        values = first.copy()
        values[ttft_only] = part
        ttft = np.log(predicted(values, rows).ttft_seconds / rows.ttft)[served]
        prior = (part - MEAN[ttft_only]) / WIDTH[ttft_only] * PRIOR_WEIGHT
        return np.concatenate([ttft, prior])

    second = first.copy()
    loss = robust(int(ttft_only.sum()))
    found = least_squares(ttft_residuals, first[ttft_only], loss=loss, f_scale=2 * ROW_SCALE)
    second[ttft_only] = found.x
    return second


def errors(state: SteadyState, rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Absolute relative errors of TPOT and TTFT."""
    tpot: np.ndarray = np.abs(state.tpot_seconds / rows.tpot - 1)
    ttft: np.ndarray = np.abs(state.ttft_seconds / rows.ttft - 1)
    return tpot, ttft


def cross_validate(rows: Rows) -> tuple[np.ndarray, np.ndarray]:
    """Errors of every row, predicted by constants fitted without its model family."""
    tpot, ttft = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for family in sorted(set(rows.families)):
        held = rows.families == family
        found = errors(predicted(fit(rows, ~held), rows), rows)
        tpot[held], ttft[held] = found[0][held], found[1][held]
    return tpot, ttft


def summary(tpot: np.ndarray, ttft: np.ndarray, rows: Rows) -> dict[str, Any]:
    """Medians and 90th percentiles, in all and by family."""
    served = rows.is_served

    def figures(use: np.ndarray) -> dict[str, float | None]:
        return {
            "rows": int(use.sum()),
            "tpot_median": float(np.median(tpot[use])),
            "tpot_p90": float(np.quantile(tpot[use], 0.9)),
            "ttft_median": float(np.nanmedian(ttft[use])) if served[use].any() else None,
        }

    names = sorted(set(rows.families))
    by_family = {str(name): figures(rows.families == name) for name in names}
    return {
        "served": figures(served),
        "engine_steps": figures(~served),
        "families": by_family,
    }


def show(title: str, found: dict[str, Any]) -> None:
    """One line per family."""
    print(title)
    lines = {"all served rows": found["served"], "bare engine": found["engine_steps"]}
    for name, line in {**lines, **found["families"]}.items():
        ttft = "" if line["ttft_median"] is None else f"  TTFT median {line['ttft_median']:.1%}"
        print(
            f"  {name:24s} {line['rows']:5d} rows  TPOT median {line['tpot_median']:.1%} "
            f"p90 {line['tpot_p90']:.1%}{ttft}"
        )


def main() -> None:
    """Fit and write, or cross-validate and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n", maxsplit=1)[0])
    parser.add_argument("--evidence", type=Path, required=True)
    parser.add_argument("--configs", type=Path, required=True)
    parser.add_argument("--cross-validate", action="store_true", help="print errors, write nothing")
    options = parser.parse_args()
    rows = read_rows(options.evidence, options.configs)
    held_out = cross_validate(rows)
    figures = summary(*held_out, rows)
    show("each family predicted by constants fitted without it", figures)
    if options.cross_validate:
        return
    values = fit(rows, np.ones(len(rows), dtype=bool))
    show("all rows, fitted on all", summary(*errors(predicted(values, rows), rows), rows))
    constants = constants_of(values)
    TARGET.write_text(json.dumps(document(constants, figures, len(rows)), indent=2) + "\n")
    print(f"{constants.count} constants written to {TARGET}")


def document(constants: Constants, figures: dict[str, Any], rows: int) -> dict[str, Any]:
    """What constants.json holds, with its provenance."""

    def rounded(value: float) -> float:
        return float(f"{value:.4g}")

    own = {f.name: getattr(constants, f.name) for f in fields(constants) if f.name != "engines"}
    engines = {
        name: {f.name: rounded(getattr(engine, f.name)) for f in fields(engine)}
        for name, engine in constants.engines.items()
    }
    return {
        "provenance": {
            "written_by": "python -m scripts.fit_performance --evidence DIR --configs DIR",
            "evidence": "AIConfigurator's published silicon sample (Apache-2.0), vLLM 0.25 on H200",
            "rows": rows,
        },
        "cross_validated_median_error": {
            "tpot": round(figures["served"]["tpot_median"], 3),
            "ttft": round(figures["served"]["ttft_median"], 3),
        },
        "constants": {**{n: rounded(v) for n, v in own.items()}, "engines": engines},
    }


if __name__ == "__main__":
    main()
