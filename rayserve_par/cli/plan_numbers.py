"""The numbers of a plan as people read them: value, range, unit; used by text and HTML alike.

range of TTFT or TPOT   value x (1 - e) to value x (1 + e), e the median error of predictions
                        for models left out of the fit: half of such predictions lie within it
range of tokens/s       streams x OSL / (TTFT + (OSL - 1) x TPOT) with both at their ends
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from rayserve_par.planning.performance import OperatingPoint
from rayserve_par.planning.plan import Plan

ERROR_NOTE = "range: half of the predictions for models left out of the fit were closer"


@dataclass(frozen=True, slots=True)
class Ranged:
    """A predicted value with its range."""

    value: float
    low: float
    high: float

    def times(self, factor: float) -> Ranged:
        """All three times `factor`."""
        return Ranged(self.value * factor, self.low * factor, self.high * factor)


@dataclass(frozen=True, slots=True)
class Line:
    """One number: what it is, its value, and its range or what else there is to say."""

    name: str
    value: str
    more: str = ""


def ttft(plan: Plan) -> Ranged:
    """Seconds to the first token."""
    return _within(plan.point.ttft_seconds, plan.typical_error.ttft)


def tpot(plan: Plan) -> Ranged:
    """Seconds per output token."""
    return _within(plan.point.tpot_seconds, plan.typical_error.tpot)


def tokens_per_second(plan: Plan) -> Ranged:
    """Output tokens per second of one instance."""
    point, rest = plan.point, plan.workload.osl - 1

    def at(first: float, each: float) -> float:
        return point.streams * plan.workload.osl / (first + rest * each)

    slow = at(ttft(plan).high, tpot(plan).high)
    fast = at(ttft(plan).low, tpot(plan).low)
    return Ranged(point.tokens_per_second, slow, fast)


def _within(value: float, error: float) -> Ranged:
    return Ranged(value, value * (1 - error), value * (1 + error))


def requests_held(plan: Plan) -> float:
    """Requests of the workload's length that the KV memory of one instance holds."""
    return plan.layout.dp * plan.memory.requests_at(plan.workload.tokens)


def predicted_lines(plan: Plan) -> Iterator[Line]:
    """What the plan would do under its workload, and what it costs."""
    point, count = plan.point, plan.instances
    yield Line("TTFT", ms(point.ttft_seconds), _range(ttft(plan).times(1e3), "ms"))
    yield Line("TPOT", ms(point.tpot_seconds), _range(tpot(plan).times(1e3), "ms"))
    speed = tokens_per_second(plan)
    per_user = point.tokens_per_second_per_user
    error = plan.typical_error.tpot
    user = Ranged(per_user, per_user / (1 + error), per_user / (1 - error))
    yield Line("tokens/s per user", number(per_user), _range(user))
    yield Line("tokens/s per GPU", number(point.tokens_per_second_per_gpu))
    yield Line("tokens/s per instance", number(speed.value), _range(speed))
    if count > 1:
        each = f"{count:,} instances"
        yield Line("tokens/s in all", number(plan.tokens_per_second), each)
    yield Line("requests/s in all", number(plan.requests_per_second))
    yield Line(
        "requests that KV holds",
        f"{requests_held(plan):,.0f}",
        f"per instance, of {plan.workload.tokens:,} tokens; {point.streams:,g} run",
    )
    yield Line("price per hour", dollars(plan.dollars_per_hour), _price(plan))
    yield Line("$ per million tokens", dollars(plan.dollars_per_million_tokens), "output tokens")


def _price(plan: Plan) -> str:
    price, gpu = plan.node_group.gpu.price_per_hour_usd, plan.node_group.gpu.name
    if price is None:
        return f"nobody lists a price of {gpu}; give price_per_hour_usd in a --cluster file"
    idle = plan.gpus_taken - plan.gpus
    beside = f", {idle:g} of them idle" if idle else ""
    return f"list price: {plan.gpus_taken:,g} x {gpu} at ${price:g} an hour{beside}"


def _range(found: Ranged, unit: str = "") -> str:
    end = f" {unit}" if unit else ""
    return f"{number(found.low)} to {number(found.high)}{end}"


def number(value: float) -> str:
    """Three digits, or whole from 1000 up."""
    return f"{value:,.0f}" if abs(value) >= 999.5 else f"{value:.3g}"


def ms(seconds: float) -> str:
    """Seconds as milliseconds."""
    return f"{number(1e3 * seconds)} ms"


def dollars(value: float | None) -> str:
    """A price; "no list price" where there is none."""
    if value is None:
        return "no list price"
    return f"${value:,.2f}" if value >= 0.1 else f"${value:.3g}"


RUNNER_UP_COLUMNS = (
    "layout",
    "GPUs",
    "streams",
    "TTFT",
    "TPOT",
    "tokens/s/GPU",
    "$/M tokens",
    "within limits",
)


def layout_rows(plan: Plan) -> tuple[tuple[str, ...], ...]:
    """The layout taken and the runner-ups by `RUNNER_UP_COLUMNS`: those within the limits first."""
    meets = (
        plan.point.ttft_seconds <= plan.workload.ttft_limit
        and plan.point.tpot_seconds <= plan.workload.tpot_limit
    )
    own = plan.node_group.name
    first = _row(plan.layout.label, plan.point, plan.dollars_per_million_tokens, meets)
    rest = (
        _row(
            one.layout.label
            if one.node_group == own
            else f"{one.layout.label} on {one.node_group}",
            one.point,
            one.dollars_per_million_tokens,
            one.meets_limits,
        )
        for one in sorted(plan.runner_ups, key=lambda one: not one.meets_limits)
    )
    return (first, *rest)


def _row(name: str, point: OperatingPoint, price: float | None, meets: bool) -> tuple[str, ...]:
    return (
        name,
        f"{point.gpus:,}",
        f"{point.streams:,g}",
        ms(point.ttft_seconds),
        ms(point.tpot_seconds),
        number(point.tokens_per_second_per_gpu),
        "-" if price is None else dollars(price),
        "yes" if meets else "no",
    )
