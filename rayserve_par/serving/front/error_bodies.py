"""HAProxy's own answers, as OpenAI's clients expect errors: JSON with `error.message` and so on.

HAProxy sends them for 400 (no HTTP), 408 (too slow), 413 (too large), and for 502, 503 and 504,
which all mean that no instance answered and become 503 with `Retry-After`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

RETRY_AFTER_SECONDS = 5


@dataclass(frozen=True, slots=True)
class ErrorAnswer:
    """One answer that HAProxy gives by itself."""

    status: int
    reason: str
    message: str
    kind: str
    code: str | int
    retry: bool = False

    @property
    def body(self) -> str:
        """The JSON document."""
        error = {"message": self.message, "type": self.kind, "param": None, "code": self.code}
        return json.dumps({"error": error})

    @property
    def response(self) -> str:
        """The raw HTTP response."""
        retry_after = f"Retry-After: {RETRY_AFTER_SECONDS}\r\n" if self.retry else ""
        return (
            f"HTTP/1.1 {self.status} {self.reason}\r\n"
            "Content-Type: application/json\r\n"
            f"Content-Length: {len(self.body.encode())}\r\n"
            f"{retry_after}"
            "Connection: close\r\n"
            "\r\n"
            f"{self.body}"
        )


UNAVAILABLE = ErrorAnswer(
    503,
    "Service Unavailable",
    "No instance of this model can answer now; one is starting or restarting.",
    "service_unavailable",
    503,
    retry=True,
)
MALFORMED = ErrorAnswer(
    400, "Bad Request", "This is not a valid HTTP request.", "invalid_request_error", "bad_request"
)
TOO_SLOW = ErrorAnswer(
    408,
    "Request Timeout",
    "The request did not arrive in time.",
    "invalid_request_error",
    "request_timeout",
)
NO_SUCH_PATH = ErrorAnswer(
    404,
    "Not Found",
    "There is no such endpoint here. OpenAI-compatible endpoints begin with /v1/.",
    "invalid_request_error",
    "not_found",
)


def too_large(max_body_bytes: int) -> ErrorAnswer:
    """The answer to a body above the front's limit."""
    return ErrorAnswer(
        413,
        "Payload Too Large",
        f"The request body is larger than {max_body_bytes} bytes.",
        "invalid_request_error",
        "request_too_large",
    )
