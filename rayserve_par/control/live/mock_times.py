"""Step times of the mock engine, in the form of the planner's: what is in front of it scales alike.

step = base + sequences x per sequence + prompt tokens / prefill rate     (mock_engine/times.py)
"""

from __future__ import annotations

from dataclasses import dataclass

from rayserve_par.serving.mock_engine.times import EngineTimes


@dataclass(frozen=True, slots=True)
class MockStepTimes:
    """The times of one mock engine, which is one rank."""

    times: EngineTimes
    dp: int = 1
    first_token_seconds: float = 0.0

    def decode(self, batch: float, context_tokens: float) -> float:  # noqa: ARG002
        """One step of `batch` decodes; the context does not matter to it."""
        return self.mixed(0, 0.0, round(batch), 0.0)

    def mixed(
        self,
        prompt_tokens: int,
        before_tokens: float,  # noqa: ARG002
        batch: int,
        context_tokens: float,  # noqa: ARG002
    ) -> float:
        """One step with `prompt_tokens` beside `batch` decodes."""
        return self.times.step_seconds(batch + (prompt_tokens > 0), prompt_tokens)
