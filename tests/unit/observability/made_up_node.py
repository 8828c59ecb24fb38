"""A metrics endpoint that exports one series or a few of every metric that we know.

Labels agree as on a cluster: `ReplicaId` is `instance_id`, `model_name` is `model`. Counters
grow by one a second. So an expression that answers nothing here joins or selects wrongly.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

from rayserve_par.serving.metric_registry import (
    CONTROLLER_METRICS,
    FOREIGN_METRICS,
    INSTANCE_METRICS,
    REPLANNER_METRICS,
    Kind,
)

MODEL = "m"
_ENGINE = ("model_name", "ReplicaId", "engine")
_FOREIGN_LABELS = {
    "ray_serve_num_http_requests_total": ("application", "status_code"),
    "ray_serve_deployment_replica_starts_total": ("application", "deployment", "replica"),
    "ray_serve_autoscaling_target_replicas": ("application", "deployment"),
    "ray_serve_deployment_replica_healthy": ("application", "deployment", "replica"),
    "ray_resources": ("Name", "State"),
    "ray_placement_groups": ("State",),
}
_VALUES: Mapping[str, tuple[str, ...]] = {
    "model": (MODEL,),
    "model_name": (MODEL,),
    "instance_id": ("i", "j"),
    "ReplicaId": ("i", "j"),
    "replica": ("i", "j"),
    "deployment": ("instance",),
    "outcome": ("met", "ttft", "ok"),
    "state": ("ready", "starting", "draining"),
    "Name": ("GPU",),
    "State": ("USED", "AVAILABLE"),
    "status_code": ("200",),
}
_MOMENT = ("control_look_timestamp_seconds",)


def _series(labels: tuple[str, ...]) -> Iterator[str]:
    values = [_VALUES.get(label, ("x",)) for label in labels]
    for combined in itertools.product(*values):
        yield ",".join(f'{label}="{value}"' for label, value in zip(labels, combined, strict=True))


def exposition(seconds: float) -> str:
    """What the endpoint says `seconds` after its start."""
    lines = []
    ours = [(m.exported, m.kind, m.labels) for m in INSTANCE_METRICS.values()]
    ours += [(m.exported, m.kind, m.labels) for m in CONTROLLER_METRICS.values()]
    ours += [(m.exported, m.kind, m.labels) for m in REPLANNER_METRICS.values()]
    others = [
        (m.exported, m.kind, _FOREIGN_LABELS.get(name, _ENGINE if "_vllm_" in name else ()))
        for name, m in FOREIGN_METRICS.items()
        if name != "up"
    ]
    for name, kind, labels in (*ours, *others):
        lines.append(f"# TYPE {name} {kind.value}")
        for found in _series(labels):
            lines += _lines(name, kind, found, seconds)
    return "\n".join(lines) + "\n"


def _lines(name: str, kind: Kind, labels: str, seconds: float) -> list[str]:
    if kind is Kind.HISTOGRAM:
        comma = "," if labels else ""
        return [
            *(f'{name}_bucket{{{labels}{comma}le="{le}"}} {seconds}' for le in ("1.0", "+Inf")),
            f"{name}_sum{{{labels}}} {seconds}",
            f"{name}_count{{{labels}}} {seconds}",
        ]
    if kind is Kind.COUNTER:
        return [f"{name}{{{labels}}} {seconds}"]
    value = time.time() if name.endswith(_MOMENT) else 1.0
    return [f"{name}{{{labels}}} {value}"]


class MadeUpNode:
    """Context manager: the endpoint on a free port of this machine."""

    def __init__(self) -> None:
        started = time.monotonic()

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = exposition(time.monotonic() - started).encode()
                self.send_response(200)
                self.send_header("content-type", "text/plain; version=0.0.4")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Tests need no log of scrapes."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
