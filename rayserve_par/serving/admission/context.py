"""What the engine's side may know of the request that it works on.

The middleware sets these for each request; whatever the application starts for it inherits them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rayserve_par.serving.admission.usage import UsageEntry

# vLLM's meaning: lower is scheduled earlier (with scheduling_policy: priority).
request_priority: ContextVar[int] = ContextVar("rayserve_par_request_priority", default=0)
request_key_name: ContextVar[str | None] = ContextVar("rayserve_par_request_key", default=None)
request_usage: ContextVar[UsageEntry | None] = ContextVar("rayserve_par_usage", default=None)
