"""What the policy is made from, in a form that Ray Serve can carry to its controller.

`policy_kwargs` of Serve are JSON, so settings are, and the model of an instance is its pickle in
base64: the step times hold the planner's model whole, and making it anew would read the model's
config, perhaps from a hub, in Serve's controller. Both ends run the same release.
"""

from __future__ import annotations

import base64
import pickle
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rayserve_par.control.decide.settings import Bounds, ScaleSettings
from rayserve_par.control.instance_model.capacity import InstanceModel, Times
from rayserve_par.placement.bundles import Placement


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """Of one DP rank, as the instance's engine runs."""

    kv_tokens: int
    max_num_seqs: int
    max_num_batched_tokens: int


@dataclass(frozen=True, slots=True)
class LiveSettings:
    """One application: `isl` and `osl` are the planned lengths, in tokens; limits in seconds."""

    model: str
    layout: str
    gpu: str
    placement: Placement
    times: Times
    limits: EngineLimits
    ttft_limit: float
    tpot_limit: float
    isl: float
    osl: float
    start_seconds: float
    scale: ScaleSettings
    dry_run: bool = False
    priority: int = 0

    @property
    def gpus_per_instance(self) -> int:
        """GPUs of one instance."""
        return self.placement.layout.gpus

    def instance_model(self) -> InstanceModel:
        """The planner's model of one instance with the target."""
        return InstanceModel(
            self.times,
            kv_tokens=self.limits.kv_tokens,
            max_num_seqs=self.limits.max_num_seqs,
            max_num_batched_tokens=self.limits.max_num_batched_tokens,
            ttft_limit=self.ttft_limit,
            tpot_limit=self.tpot_limit,
        )

    def as_kwargs(self) -> dict[str, Any]:
        """As `policy_kwargs`."""
        pickled = ("placement", "times")
        plain = {
            key: value
            for key in self.__dataclass_fields__
            if key not in (*pickled, "limits", "scale")
            for value in [getattr(self, key)]
        }
        parts = {key: getattr(self, key) for key in pickled}
        return {
            **plain,
            "limits": asdict(self.limits),
            "scale": asdict(self.scale),
            "pickled": base64.b64encode(pickle.dumps(parts)).decode("ascii"),
        }

    @classmethod
    def from_kwargs(cls, found: Mapping[str, Any]) -> LiveSettings:
        """The reverse of `as_kwargs`."""
        rest = dict(found)
        parts = pickle.loads(base64.b64decode(rest.pop("pickled")))
        scale = dict(rest.pop("scale"))
        bounds = Bounds(**scale.pop("bounds"))
        limits = EngineLimits(**rest.pop("limits"))
        return cls(**rest, **parts, limits=limits, scale=ScaleSettings(bounds=bounds, **scale))
