"""What each request really took, in tokens, brought from the engine to the caller's limit.

The engine's stat logger reports a finished request by the engine's id, which vLLM derives from the
header x-request-id (vllm/entrypoints/serve/engine/serving.py `_base_request_id`):

    chatcmpl-ID, chatcmpl-ID_1 (batches), cmpl-ID-0 (a prompt of a list), generate-tokens-ID, ...
    INDEX_id-HEX8 for the engine's own children of n > 1

Ids made otherwise (/v1/responses, /v1/messages) cannot be derived; `on_started`, called where the
application hands its request to the engine, binds any id through the context. An id that is not
bound is looked up by these forms. Each engine id pays its prompt once, however many choices it has.

A request that the engine aborts (the client left, a deadline) is never reported as finished. Where
no report came `_GRACE_SECONDS` after the answer's end, it pays an estimate: its body's bytes / 4
and what was sent (`Response.estimated_tokens`).
"""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rayserve_par.serving.admission.context import request_usage

_GRACE_SECONDS = 2.0
_BYTES_PER_TOKEN = 4
# Long after the answer's end: an id that is still there was forgotten by nobody's report.
_FORGET_SECONDS = 60.0
_CHILD = re.compile(r"^\d+_")
_HEX = re.compile(r"-[0-9a-f]{8}$")
_ITEM = re.compile(r"[-_]\d+$")


@dataclass(slots=True)
class UsageEntry:
    """One request; `charge` takes the tokens that its caller pays."""

    request_id: str
    charge: Callable[[int], None]
    body_bytes: int
    reported: bool = False
    ended_at: float | None = None
    estimate: int = 0
    prepaid: int = 0
    engine_ids: set[str] = field(default_factory=set)
    paid_prompts: set[str] = field(default_factory=set)


class UsageSink:
    """Entries of requests under way, and of those that ended just now."""

    def __init__(self) -> None:
        self._by_request: dict[str, UsageEntry] = {}
        self._by_engine: dict[str, UsageEntry] = {}
        self._ended: deque[UsageEntry] = deque()
        self._estimated: deque[UsageEntry] = deque()

    def __len__(self) -> int:
        return len(self._by_request)

    def register(
        self, request_id: str, charge: Callable[[int], None], body_bytes: int
    ) -> UsageEntry:
        """A request begins; its id must not be in use (`knows`)."""
        entry = self._by_request[request_id] = UsageEntry(request_id, charge, body_bytes)
        return entry

    def knows(self, request_id: str) -> bool:
        """Whether an entry has this id."""
        return request_id in self._by_request

    def on_started(self, engine_request_id: str) -> None:
        """The request of this context goes to the engine under that id."""
        entry = request_usage.get()
        if entry is not None:
            entry.engine_ids.add(engine_request_id)
            self._by_engine[engine_request_id] = entry

    def on_finished(self, request_id: str | None, prompt_tokens: int, output_tokens: int) -> None:
        """The engine finished `request_id` (its external id)."""
        entry = None if request_id is None else self._find(request_id)
        if entry is None or request_id is None:
            return
        tokens = output_tokens
        if request_id not in entry.paid_prompts:
            entry.paid_prompts.add(request_id)
            tokens += prompt_tokens
        entry.reported = True
        # A report that came late finds a part paid by estimate.
        known = min(entry.prepaid, tokens)
        entry.prepaid -= known
        if tokens > known:
            entry.charge(tokens - known)

    def end(self, entry: UsageEntry, now: float, output_tokens: int | None) -> None:
        """The answer ended; None: the engine did no work for it, as far as the answer tells."""
        entry.ended_at = now
        if output_tokens is not None:
            entry.estimate = entry.body_bytes // _BYTES_PER_TOKEN + output_tokens
        self._ended.append(entry)

    def sweep(self, now: float) -> None:
        """Charge estimates whose reports did not come; forget what is long over."""
        while self._ended and now - (self._ended[0].ended_at or now) >= _GRACE_SECONDS:
            entry = self._ended.popleft()
            if entry.reported or not entry.estimate:
                self._forget(entry)
            else:
                entry.prepaid = entry.estimate
                entry.charge(entry.estimate)
                self._estimated.append(entry)
        while self._estimated and now - (self._estimated[0].ended_at or now) >= _FORGET_SECONDS:
            self._forget(self._estimated.popleft())

    def _forget(self, entry: UsageEntry) -> None:
        if self._by_request.get(entry.request_id) is entry:
            del self._by_request[entry.request_id]
        for engine_id in entry.engine_ids:
            self._by_engine.pop(engine_id, None)

    def _find(self, engine_id: str) -> UsageEntry | None:
        entry = self._by_engine.get(engine_id)
        if entry is not None:
            return entry
        for candidate in _request_ids(engine_id):
            entry = self._by_request.get(candidate)
            if entry is not None:
                return entry
        return None


def _request_ids(engine_id: str) -> Iterator[str]:
    """The request ids that may be behind `engine_id`, the likeliest first."""
    name = _CHILD.sub("", engine_id)
    prefix, _, rest = name.partition("-")
    rests = [rest] if rest else [name]
    if "-" in rest:
        rests.append(rest.partition("-")[2])  # generate-tokens-ID
    for core in rests:
        forms = [core, _HEX.sub("", core)]
        items = [_ITEM.sub("", form) for form in forms]
        # A completion's id always ends in the number of its prompt.
        yield from (*items, *forms) if prefix == "cmpl" else (*forms, *items)
