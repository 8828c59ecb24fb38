"""The `admission:` block of an application's arguments."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator

from rayserve_par.serving.strict_model import StrictModel

MIB = 2**20


class LimitArgs(StrictModel):
    """What one key may use, over all replicas of an application or pool; None is without a limit.

    The per-minute limits are token buckets that hold one minute's worth: so much at once, and so
    much per minute from then on.
    """

    _subject: ClassVar[str] = "limits"
    requests_per_minute: PositiveInt | None = None
    tokens_per_minute: PositiveInt | None = None
    concurrency: PositiveInt | None = None

    def over(self, defaults: LimitArgs) -> LimitArgs:
        """These limits, with `defaults` where one is not set."""
        return LimitArgs(
            requests_per_minute=self.requests_per_minute or defaults.requests_per_minute,
            tokens_per_minute=self.tokens_per_minute or defaults.tokens_per_minute,
            concurrency=self.concurrency or defaults.concurrency,
        )


class ConcurrencyArgs(StrictModel):
    """How many requests one instance holds at once before it sheds.

    adaptive: see `concurrency.AdaptiveLimit`. fixed: exactly `limit`. off: no limit.
    min: never below; without it what the engine runs at once (max_num_seqs), 256 at most.
    reserve: share above the limit that is kept for keys of a priority before 0, and share of the
        limit that keys after 0 do not get.
    """

    _subject: ClassVar[str] = "concurrency"
    mode: Literal["adaptive", "fixed", "off"] = "adaptive"
    limit: PositiveInt | None = None
    min: PositiveInt | None = None
    start: PositiveInt | None = None
    max: PositiveInt = 2048
    target_queue_seconds: PositiveFloat = 0.5
    reserve: float = Field(default=0.1, ge=0, le=0.5)

    @model_validator(mode="after")
    def _limits_fit(self) -> Self:
        if (self.mode == "fixed") != (self.limit is not None):
            raise ValueError("concurrency.limit and mode: fixed belong together; set both")
        low, start = self.min or 1, self.start or self.max
        if not low <= start <= self.max:
            raise ValueError(
                f"concurrency must have min <= start <= max, found {low}, {start}, {self.max}"
            )
        return self


class AdmissionArgs(StrictModel):
    """Keys, limits and bounds of one application.

    keys_file: YAML or JSON; without it RAYSERVE_PAR_KEYS_FILE, then the text RAYSERVE_PAR_KEYS.
    open: serve other hosts without keys.
    max_buffered_bytes: of the bodies of all requests of one replica together.
    max_json_values: of one body, strings, numbers, members and so on; a sixteenth of it may be
        arrays and objects, which take so much longer to make.
    max_prompt_chars: of all text of one request. max_prompts: prompts of one request.
    max_output_tokens: a request that asks for more is refused, not cut.
    request_timeout_s: until the whole answer; a request's x-request-timeout-seconds replaces it.
    stream_stall_s: a client that takes nothing of its answer for so long is cut.
    default_limits: for keys that do not set their own. anonymous_limits: for all without a key.
    """

    _subject: ClassVar[str] = "admission"
    keys_file: str | None = None
    open: bool = False
    max_body_bytes: PositiveInt = 32 * MIB
    max_buffered_bytes: PositiveInt = 512 * MIB
    body_timeout_s: PositiveFloat = 30.0
    max_json_values: PositiveInt = 2_000_000
    max_prompt_chars: PositiveInt | None = 4_000_000
    max_prompts: PositiveInt = 2048
    max_n: PositiveInt = 8
    max_output_tokens: PositiveInt | None = None
    request_timeout_s: PositiveFloat | None = None
    stream_stall_s: PositiveFloat = 60.0
    concurrency: ConcurrencyArgs = ConcurrencyArgs()
    default_limits: LimitArgs = LimitArgs()
    anonymous_limits: LimitArgs = LimitArgs()

    @model_validator(mode="after")
    def _one_body_fits(self) -> Self:
        if self.max_buffered_bytes < self.max_body_bytes:
            raise ValueError(
                f"max_buffered_bytes {self.max_buffered_bytes} is below max_body_bytes "
                f"{self.max_body_bytes}; one body of the largest size must fit"
            )
        return self
