"""From a replayed trace to figures, and from the figures of all policies to a table.

- prefix hit rate = prompt tokens found in the cache / prompt tokens, over all instances, as the
  engines count them.
- TTFT p50, p95 in seconds over all requests that began after `warm_up_seconds`.
- balance = the mean over samples of (sequences of the fullest instance / mean of the instances),
  running and waiting, over samples with work; 1 is even, the number of instances is all on one.
- failed = requests without a complete answer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from benchmarks.front.summary import percentile


@dataclass(frozen=True, slots=True)
class Asked:
    """One request of the trace: seconds since the trace's start, or None where it failed."""

    start_seconds: float
    ttft_seconds: float | None


@dataclass(frozen=True, slots=True)
class Figures:
    """What one policy did with one trace."""

    requests: int
    failed: int
    hit_rate: float
    ttft_p50_seconds: float
    ttft_p95_seconds: float
    balance: float


def figures(
    asked: Sequence[Asked],
    prefix_tokens: Sequence[tuple[int, int]],
    load_samples: Sequence[Sequence[int]],
    warm_up_seconds: float,
) -> Figures:
    """`prefix_tokens`: (hit, asked) of each instance; `load_samples`: sequences per instance.

    Raises:
        ValueError: no request was answered after the warm-up, or no sample has work.
    """
    ttfts = [
        one.ttft_seconds
        for one in asked
        if one.ttft_seconds is not None and one.start_seconds >= warm_up_seconds
    ]
    hits, queries = (sum(column) for column in zip(*prefix_tokens, strict=True))
    return Figures(
        requests=len(asked),
        failed=sum(one.ttft_seconds is None for one in asked),
        hit_rate=hits / queries,
        ttft_p50_seconds=percentile(ttfts, 0.5),
        ttft_p95_seconds=percentile(ttfts, 0.95),
        balance=fmean(max(load) / fmean(load) for load in load_samples if sum(load)),
    )


def markdown(table: Mapping[str, Figures], references: Sequence[str]) -> str:
    """A table with one row per policy, and its TTFT p50 against each reference policy's."""
    head = ["policy", "prefix hits", "TTFT p50", "TTFT p95", "balance", "requests", "failed"]
    head += [f"TTFT p50 / {name}'s" for name in references]
    head += [f"TTFT p95 / {name}'s" for name in references]
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    for name, row in table.items():
        cells = [
            name,
            f"{row.hit_rate:.1%}",
            f"{row.ttft_p50_seconds * 1e3:.0f} ms",
            f"{row.ttft_p95_seconds * 1e3:.0f} ms",
            f"{row.balance:.2f}",
            str(row.requests),
            str(row.failed),
        ]
        for metric in ("ttft_p50_seconds", "ttft_p95_seconds"):
            for reference in references:
                against = getattr(table[reference], metric)
                cells.append(f"{getattr(row, metric) / against:.2f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)
