"""What the re-planner keeps of an application between looks, as JSON in Ray's key-value store.

A decision is written as `undone` before it is carried out and cleared after, so that whoever comes
next carries it out (again): the same document twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

from rayserve_par.control.decide.prospect import Choice
from rayserve_par.control.decide.replan_events import ReplanLog
from rayserve_par.control.decide.replan_state import ReplanDecision, ReplanMemory

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class ReplanRecord:
    """`known` is the layout that was last seen to live; `seconds` when this was written (Unix).

    `config` is the user's own part of the application's args: where that changes, what was learned
    of the former one counts no more.
    """

    config: str = ""
    seconds: float = 0.0
    memory: ReplanMemory = field(default_factory=ReplanMemory)
    log: ReplanLog = field(default_factory=ReplanLog)
    known: Choice | None = None
    latest: ReplanDecision | None = None
    undone: ReplanDecision | None = None
    mode: str = "acting"

    def for_config(self, args: Mapping[str, Any]) -> ReplanRecord:
        """This record, or one that keeps only the log where the user's args are others."""
        own = {key: value for key, value in args.items() if key != "replanned"}
        config = json.dumps(own, sort_keys=True, default=str)
        return self if config == self.config else ReplanRecord(config=config, log=self.log)

    def as_object(self) -> dict[str, Any]:
        """As JSON."""
        # Not `dump_json`: its null for an infinite prediction could not be read back.
        found: dict[str, Any] = _adapter().dump_python(self, mode="json")
        return found

    @classmethod
    def from_object(cls, found: Mapping[str, Any] | None) -> ReplanRecord:
        """The reverse of `as_object`; an empty one for None."""
        return cls() if found is None else _adapter().validate_json(json.dumps(found))


@cache
def _adapter() -> TypeAdapter[ReplanRecord]:
    from pydantic import TypeAdapter

    return TypeAdapter(ReplanRecord)
