"""Requests at a steady rate, whatever becomes of the earlier ones, until the block ends."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import Any

import httpx

_DONE = "data: [DONE]"


class OpenLoad:
    """`rate` requests per second; `outcomes` counts statuses, and errors by their type.

    A stream that does not end with [DONE] counts as "cut".
    """

    def __init__(self, url: str, body: dict[str, Any], rate: float) -> None:
        self._url, self._body, self._gap = f"{url}/v1/completions", body, 1 / rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()))
        self.outcomes: Counter[str] = Counter()

    async def _run(self) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=0)
        async with httpx.AsyncClient(timeout=60, limits=limits) as client:
            sent: set[asyncio.Task[None]] = set()
            loop = asyncio.get_running_loop()
            due = loop.time()
            while not self._over.is_set():
                sent.add(asyncio.create_task(self._send(client)))
                due += self._gap
                await asyncio.sleep(max(0.0, due - loop.time()))
            await asyncio.gather(*sent)

    async def _send(self, client: httpx.AsyncClient) -> None:
        try:
            answer = await client.post(self._url, json=self._body)
            cut = self._body.get("stream") and answer.is_success and _DONE not in answer.text
            self.outcomes["cut" if cut else str(answer.status_code)] += 1
        except httpx.HTTPError as error:
            self.outcomes[type(error).__name__] += 1

    def __enter__(self) -> OpenLoad:
        self._thread.start()
        return self

    def end(self) -> None:
        """Send no more; the block's end waits for the answers."""
        self._over.set()

    def __exit__(self, *_: object) -> None:
        self.end()
        self._thread.join()

    @property
    def all_served(self) -> bool:
        """Whether every request was answered with 200."""
        return set(self.outcomes) == {"200"}
