"""The `autoscaling:` block of a config: which policy scales, its limits, and how it looks.

`latency` holds the TTFT and TPOT of `workload:` (docs/autoscaling.md), `ongoing_requests` is Ray
Serve's own. Without `policy` it is `latency` where the workload states both limits. A key that the
policy in force does not read is refused, since it would do nothing.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from rayserve_par.serving.strict_model import StrictModel

ScalingPolicy = Literal["latency", "ongoing_requests"]

_OF_LATENCY = (
    "gpu_budget",
    "priority",
    "attainment",
    "usable_share",
    "margin",
    "settle_seconds",
    "look_seconds",
    "start_seconds",
    "dry_run",
    "to_zero_seconds",
    "max_held_requests",
)
_OF_ONGOING = (
    "target_ongoing_requests",
    "upscale_delay_s",
    "downscale_delay_s",
    "look_back_period_s",
    "metrics_interval_s",
)


class AutoscalingArgs(StrictModel):
    """How the number of instances follows the load.

    min_replicas, max_replicas: instances at the least and at the most.
    Of `latency`: gpu_budget, GPUs of all instances at the most; priority, over other
    models where free GPUs are too few, the higher first; attainment, the share of requests
    within the target; usable_share, of an instance's full rate; margin, by which fewer must
    hold more; settle_seconds, without a scale-down after a scale-up; look_seconds, between two
    decisions; start_seconds, of an instance, until starts were measured; dry_run, decide and
    do nothing; with min_replicas 0, to_zero_seconds without a request until none is left, and
    max_held_requests that wait for a first instance at the most.
    The others are of `ongoing_requests`, with Ray Serve's meanings.
    """

    _subject: ClassVar[str] = "autoscaling"
    policy: ScalingPolicy | None = None
    min_replicas: NonNegativeInt = 1
    max_replicas: PositiveInt
    gpu_budget: PositiveInt | None = None
    priority: int = Field(default=0, ge=-100, le=100)
    attainment: float = Field(default=0.99, ge=0.5, le=0.9999)
    usable_share: float = Field(default=0.95, ge=0.1, le=1.0)
    margin: float = Field(default=0.08, ge=0, le=1)
    settle_seconds: float = Field(default=600.0, ge=0, le=86400)
    look_seconds: float = Field(default=2.0, ge=1, le=600)
    start_seconds: float = Field(default=60.0, ge=1, le=7200)
    dry_run: bool = False
    to_zero_seconds: float = Field(default=600.0, ge=1, le=1e7)
    max_held_requests: PositiveInt = 256
    target_ongoing_requests: PositiveFloat = 32.0
    upscale_delay_s: float = Field(default=30.0, ge=0)
    downscale_delay_s: float = Field(default=600.0, ge=0)
    look_back_period_s: PositiveFloat = 30.0
    metrics_interval_s: PositiveFloat = 10.0

    @model_validator(mode="after")
    def _min_is_not_above_max(self) -> Self:
        if self.min_replicas > self.max_replicas:
            raise ValueError(
                f"autoscaling.min_replicas {self.min_replicas} is above max_replicas "
                f"{self.max_replicas}"
            )
        return self

    def policy_for(self, *, limits_set: bool) -> ScalingPolicy:
        """The policy in force; `limits_set` says whether the workload has TTFT and TPOT.

        Raises:
            ValueError: the policy needs limits that are not set, or a key is of the other policy.
        """
        chosen: ScalingPolicy = self.policy or ("latency" if limits_set else "ongoing_requests")
        if chosen == "latency" and not limits_set:
            raise ValueError(
                "autoscaling.policy latency needs workload.ttft_ms and workload.tpot_ms, which it "
                "is to hold; set both, or policy: ongoing_requests"
            )
        if self.min_replicas == 0 and chosen != "latency":
            raise ValueError(
                "autoscaling.min_replicas 0 needs policy latency; give at least 1, or set "
                "workload.ttft_ms and workload.tpot_ms"
            )
        for key in _OF_ONGOING if chosen == "latency" else _OF_LATENCY:
            if key in self.model_fields_set:
                why = (
                    "which is in force as workload has ttft_ms and tpot_ms"
                    if self.policy is None and chosen == "latency"
                    else "which is in force"
                )
                raise ValueError(
                    f"autoscaling.{key} does nothing under policy {chosen}, {why}; leave it out, "
                    "or set policy: " + ("ongoing_requests" if chosen == "latency" else "latency")
                )
        return chosen

    def serve_options(self) -> dict[str, Any]:
        """Ray Serve's `autoscaling_config` of its own policy."""
        keys = ("min_replicas", "max_replicas", *_OF_ONGOING)
        return {key: getattr(self, key) for key in keys}
