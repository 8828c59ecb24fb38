"""The limits of one caller as pools: requests, tokens, concurrency."""

from __future__ import annotations

from dataclasses import dataclass

from rayserve_par.serving.admission.args import LimitArgs
from rayserve_par.serving.admission.lease_book import PoolSpec
from rayserve_par.serving.admission.lease_client import Shortage, Use
from rayserve_par.serving.admission.refusal import Refusal

_MINUTE_SECONDS = 60.0
# No key may have this name: names begin with a letter or digit.
ANONYMOUS = "(anonymous)"


@dataclass(frozen=True, slots=True)
class CallerLimits:
    """What a request of one caller takes, and from which pools; `uses` is empty without limits."""

    name: str
    uses: tuple[Use, ...] = ()
    slots: PoolSpec | None = None
    tokens: PoolSpec | None = None


def caller_limits(name: str, limits: LimitArgs) -> CallerLimits:
    """The pools of caller `name`."""
    uses, slots, tokens = [], None, None
    if limits.tokens_per_minute is not None:
        tokens = _bucket(f"{name}/tokens", limits.tokens_per_minute)
        uses.append(Use(tokens, later=True))
    if limits.concurrency is not None:
        slots = PoolSpec(f"{name}/concurrency", limits.concurrency)
        uses.append(Use(slots))
    if limits.requests_per_minute is not None:
        uses.append(Use(_bucket(f"{name}/requests", limits.requests_per_minute)))
    return CallerLimits(name, tuple(uses), slots, tokens)


def _bucket(name: str, per_minute: int) -> PoolSpec:
    return PoolSpec(name, per_minute, per_minute / _MINUTE_SECONDS)


def limit_refusal(shortage: Shortage) -> Refusal:
    """429 for the limit that had no room, in OpenAI's form."""
    kind = shortage.spec.name.rsplit("/", 1)[1]
    unit = "requests at once" if kind == "concurrency" else f"{kind} per minute"
    return Refusal(
        429,
        f"This key's limit of {shortage.spec.capacity} {unit} is reached.",
        type=kind,
        code="rate_limit_exceeded",
        retry_after_seconds=shortage.retry_after_seconds,
    )
