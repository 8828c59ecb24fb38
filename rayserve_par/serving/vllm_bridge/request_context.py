"""Carries what admission knows of a request into the engine: its caller's priority and its usage.

vLLM's handlers call `engine.generate` in the context of the request, so a wrapper there reads the
context variables that the middleware has set.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

from rayserve_par.serving.admission.context import request_key_name, request_priority


def carry_request_context(engine: Any, on_started: Callable[[str], None]) -> None:
    """Wrap `engine.generate`: `on_started(engine's request id)`, and the caller's priority.

    A caller with a key may put its own request behind its others by the body's `priority`, and
    never before its key's.
    """
    generate = engine.generate

    @wraps(generate)
    def in_context(prompt: Any, sampling_params: Any, request_id: str, **more: Any) -> Any:
        on_started(request_id)
        if request_key_name.get() is not None:
            asked = int(more.get("priority") or 0)
            more["priority"] = request_priority.get() + max(0, asked)
        return generate(prompt, sampling_params, request_id, **more)

    engine.generate = in_context
