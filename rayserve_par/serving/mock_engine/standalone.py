"""What stands around the mock engine where there is neither Serve nor the admission middleware.

`/internal/front` is the status document that HAProxy's Lua polls, `/-/healthz` what HAProxy's
health check asks; under Serve the middleware and the replica answer these.
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from rayserve_par.serving.mock_engine.api import MockApi, Receive, Send, answer
from rayserve_par.serving.mock_engine.openai_answer import compact


class StandaloneApp:
    """The API, its status document and HAProxy's health check."""

    def __init__(self, api: MockApi) -> None:
        self._api = api

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        """An ASGI call."""
        path = scope.get("path", "")
        if path.endswith("/internal/front"):
            await answer(send, 200, self._api.status.document())
        elif path.endswith("/-/healthz"):
            ended = self._api.engine.errored
            await answer(send, 503 if ended else 200, compact("ended" if ended else "success"))
        else:
            await self._api(scope, receive, send)
