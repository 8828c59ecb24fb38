"""Keeps status, events and overrides of every application in Ray's key-value store.

Keys are `control/status/APP`, `control/events/APP`, `control/override/APP`, `control/replan/APP`
and `control/number/APP`. Each value is one JSON text that is replaced as a whole, so readers never
see half of one. Needs a process that is
connected to the cluster. `events/APP` is `{"counted": n, "events": [...]}`, oldest first, as
`decide.events.Event.as_object` gives them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from ray.experimental import internal_kv

from rayserve_par.control.live.records import NO_OVERRIDE, ControlStatus, Override

_NAMESPACE = b"rayserve_par"


def write_status(status: ControlStatus) -> None:
    """Replace the status of its application."""
    _put(f"control/status/{status.app}", status.as_object())


def read_statuses() -> tuple[ControlStatus, ...]:
    """The latest status of every application that was ever controlled, by name."""
    found = (_get(key) for key in _keys("control/status/"))
    return tuple(ControlStatus.from_object(one) for one in found if one is not None)


def write_events(app: str, log: Mapping[str, Any]) -> None:
    """Replace the log of an application."""
    _put(f"control/events/{app}", log)


def read_events(app: str) -> Mapping[str, Any]:
    """The log of an application; an empty one where there is none."""
    return _get(f"control/events/{app}") or {"counted": 0, "events": []}


def write_override(app: str, override: Override) -> None:
    """Replace what an operator asks of an application."""
    _put(f"control/override/{app}", override.as_object())


def read_override(app: str) -> Override:
    """What an operator asks of an application; `NO_OVERRIDE` where nobody asks anything."""
    found = _get(f"control/override/{app}")
    return NO_OVERRIDE if found is None else Override(**found)


def write_replan(app: str, record: Mapping[str, Any]) -> None:
    """Replace what the re-planner keeps of an application: see `replanning/record.py`."""
    _put(f"control/replan/{app}", record)


def read_replan(app: str) -> Mapping[str, Any] | None:
    """What the re-planner keeps of an application; None where there is nothing."""
    found: Mapping[str, Any] | None = _get(f"control/replan/{app}")
    return found


def write_number(app: str, kept: Mapping[str, Any]) -> None:
    """Replace the number that was asked for after the deployment: see `replanning/document.py`."""
    _put(f"control/number/{app}", kept)


def read_number(app: str) -> Mapping[str, Any] | None:
    """What was written last; None where there is nothing."""
    found: Mapping[str, Any] | None = _get(f"control/number/{app}")
    return found


def decided_apps() -> tuple[str, ...]:
    """Applications that either log has decisions of, or that have a status, by name."""
    kinds = [f"control/{kind}/" for kind in ("status", "events", "replan")]
    return tuple(sorted({key.removeprefix(one) for one in kinds for key in _keys(one)}))


def forget(app: str) -> None:
    """Delete all that is kept of an application."""
    for kind in ("status", "events", "override", "replan", "number"):
        internal_kv._internal_kv_del(f"control/{kind}/{app}".encode(), namespace=_NAMESPACE)


def _put(key: str, value: Mapping[str, Any]) -> None:
    internal_kv._internal_kv_put(key.encode(), json.dumps(value).encode(), namespace=_NAMESPACE)


def _get(key: str) -> Any:
    found = internal_kv._internal_kv_get(key.encode(), namespace=_NAMESPACE)
    return None if found is None else json.loads(found)


def _keys(prefix: str) -> list[str]:
    found = internal_kv._internal_kv_list(prefix.encode(), namespace=_NAMESPACE)
    return sorted(key.decode() for key in found)
