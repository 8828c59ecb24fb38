"""Reading a request's body: bounded in size, in time, and over all requests together.

What counts against the common bound is what has arrived, not what was announced: a client that
announces much and sends nothing holds nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayserve_par.serving.admission.refusal import Receive, Refusal, shed


@dataclass(slots=True)
class BodyBudget:
    """Bytes of all bodies that one replica holds; each request gives back at its end."""

    limit_bytes: int
    held_bytes: int = 0

    def take(self, size: int) -> bool:
        """Hold `size` more bytes, if there is room."""
        if self.held_bytes + size > self.limit_bytes:
            return False
        self.held_bytes += size
        return True


@dataclass(slots=True)
class Body:
    """A body as far as it has arrived; `size` of it is held of the budget."""

    data: bytes = b""
    size: int = 0
    gone: bool = False  # the client left before its end


def announced_size_refusal(content_length: bytes | None, limit: int) -> Refusal | None:
    """Refuse by the header what would be too large."""
    if content_length is not None and content_length.isdigit() and int(content_length) > limit:
        return too_large(limit)
    return None


def too_large(limit: int) -> Refusal:
    """413."""
    return Refusal(
        413, f"The body is larger than this server's {limit} bytes.", code="body_too_large"
    )


TOO_SLOW = Refusal(
    408,
    "The body did not arrive in time.",
    code="body_timeout",
    headers=((b"connection", b"close"),),
)
NO_ROOM = shed("This instance holds too many bodies at once.", 1.0)


async def read_body(receive: Receive, body: Body, budget: BodyBudget, limit: int) -> Refusal | None:
    """Read to the end into `body`, or say why not."""
    parts: list[bytes] = []
    while True:
        message = await receive()
        if message["type"] != "http.request":
            body.gone = True
            return None
        part: bytes = message.get("body", b"")
        if part:
            if body.size + len(part) > limit:
                return too_large(limit)
            if not budget.take(len(part)):
                return NO_ROOM
            body.size += len(part)
            parts.append(part)
        if not message.get("more_body", False):
            body.data = parts[0] if len(parts) == 1 else b"".join(parts)
            return None
