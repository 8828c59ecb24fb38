"""The rules that go into Serve's frontend, before it chooses a backend by path.

Serve's own health and routes endpoints are answered earlier. A process that is being replaced, and
so knows the instances of the past, passes what still comes to its successor. Then: headers that
only the front may set, public paths, the largest body, the body's arrival, the model in it, and the
Lua action, each only where something depends on it. One app with one instance needs no Lua and
reads no body; that its body is waited for keeps slow clients away from the replica and lets HAProxy
send it twice.

Serve is told not to watch for clients that leave: the application that it serves does that itself,
and Serve would run each request in a task of its own beside two more that wait.

Two kinds of client headers do not reach a replica. `x-forwarded-for`: its server believes it of
loopback and takes it for the client's address, by which admission decides who needs no key
(uvicorn/middleware/proxy_headers.py). And those that Serve decodes, where they are not ASCII: it
answers what is no UTF-8 with an error of its own, before any of our code is asked
(ray/serve/_private/replica.py, http_util.py, release 2.60).
"""

from __future__ import annotations

from collections.abc import Sequence

from rayserve_par.serving.front.error_bodies import (
    NO_SUCH_PATH,
    RETRY_AFTER_SECONDS,
    ErrorAnswer,
    too_large,
)
from rayserve_par.serving.front.front_settings import FrontSettings
from rayserve_par.serving.front.public_paths import forbidden_pattern, public_pattern
from rayserve_par.serving.front.serve_config import App

# A reload leaves the old process the connections that carry a stream; their clients use them again.
STOPPING = "{ stopping }"
# A request that names a pool's model; Serve's own rules, by path, are for one application.
POOL_RULE = "use_backend %[var(txn.rayserve_pool)] if { var(txn.rayserve_pool) -m found }"
_DECODED_BY_SERVE = (
    "x-request-id",
    "x-request-timeout-seconds",
    "x-session-id",
    "x_session_id",
    "serve_multiplexed_model_id",
    "serve-multiplexed-model-id",
    "traceparent",
    "tracestate",
)


def frontend_rules(apps: Sequence[App], settings: FrontSettings) -> list[str]:
    """Lines for the frontend, without indentation."""
    prefixes = [app.path_prefix for app in apps]
    large = f"{{ req.body_size gt {settings.max_body_bytes} }}"
    return [
        f"http-request allow if {STOPPING}",
        "http-request del-header x-rayserve-par- -m beg",
        "http-request set-header x-rayserve-par-front 1",
        "http-request del-header x-forwarded-for",
        "http-request set-header x-request-disconnect-disabled ?1",
        f"acl rayserve_public path,url_dec -m reg '{public_pattern(prefixes)}'",
        f"acl rayserve_forbidden path,url_dec -m reg '{forbidden_pattern(prefixes)}'",
        answer_rule(NO_SUCH_PATH, "if !rayserve_public or rayserve_forbidden"),
        answer_rule(too_large(settings.max_body_bytes), f"if {large}"),
        f"http-request wait-for-body time {settings.body_seconds}s if METH_POST",
        *_model_rules(apps),
        *_undecodable_header_rules(),
    ]


def _undecodable_header_rules() -> list[str]:
    # After the Lua part, to which a session's name is only bytes.
    return [
        f"http-request del-header {name} if {{ req.fhdr({name}) -m reg '[^\\x01-\\x7f]' }}"
        for name in _DECODED_BY_SERVE
    ]


def _model_rules(apps: Sequence[App]) -> list[str]:
    if not apps:
        return []
    if len(apps) > 1:
        return [
            "http-request set-var(txn.rayserve_model) req.body,json_query('$.model') if METH_POST",
            "http-request lua.rayserve_front",
        ]
    prefix = apps[0].path_prefix
    rules = []
    if prefix:
        outside = f"!{{ path {prefix} }} !{{ path_beg {prefix}/ }}"
        rules.append(f"http-request set-path {prefix}%[path] if {outside}")
    rules.append(f"http-request lua.rayserve_front if {{ path_beg {prefix}/v1/models/ }}")
    if len(apps[0].instances) > 1:
        rules.append("http-request lua.rayserve_front if METH_POST")
    return rules


def answer_rule(answer: ErrorAnswer, condition: str = "") -> str:
    """An `http-request return` of `answer`."""
    # Strong quotes: HAProxy takes what stands between them as it is; JSON brings none.
    returned = f"http-request return status {answer.status} content-type application/json"
    later = f"hdr Retry-After {RETRY_AFTER_SECONDS} " if answer.retry else ""
    return f"{returned} string '{answer.body}' {later}{condition}".rstrip()
