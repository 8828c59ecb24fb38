"""What an engine tells the front about itself: the status document's fields, and prefix counters.

The document is flat, so that HAProxy's Lua can read it with patterns. `in_flight` and `limit` are
those of the admission middleware where there is one; an engine without it has no limit but
max_num_seqs.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True, slots=True)
class EngineStatus:
    """One moment of an engine; the prefix counters are tokens since its start."""

    model: str
    names: tuple[str, ...]
    running: int
    waiting: int
    kv_usage: float
    in_flight: int
    limit: int
    draining: bool
    prefix_query_tokens: int
    prefix_hit_tokens: int
    preemptions: int

    def document(self) -> bytes:
        """As JSON."""
        return json.dumps(asdict(self), separators=(",", ":")).encode()
