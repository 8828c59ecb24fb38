"""The rules that go into Serve's frontend, before it chooses a backend by path.

Serve's own health and routes endpoints are answered earlier. Then: headers that only the front may
set, public paths, the largest body, the body's arrival, the model in it, and the Lua action, each
only where something depends on it. One app with one instance needs no Lua and reads no body; that
its body is waited for keeps slow clients away from the replica and lets HAProxy send it twice.
"""

from __future__ import annotations

from collections.abc import Sequence

from rayserve_par.serving.front.error_bodies import NO_SUCH_PATH, ErrorAnswer, too_large
from rayserve_par.serving.front.front_settings import FrontSettings
from rayserve_par.serving.front.public_paths import forbidden_pattern, public_pattern
from rayserve_par.serving.front.serve_config import App


def frontend_rules(apps: Sequence[App], settings: FrontSettings) -> list[str]:
    """Lines for the frontend, without indentation."""
    prefixes = [app.path_prefix for app in apps]
    large = f"{{ req.body_size gt {settings.max_body_bytes} }}"
    return [
        "http-request del-header x-rayserve-par- -m beg",
        "http-request set-header x-rayserve-par-front 1",
        f"acl rayserve_public path,url_dec -m reg '{public_pattern(prefixes)}'",
        f"acl rayserve_forbidden path,url_dec -m reg '{forbidden_pattern(prefixes)}'",
        answer_rule(NO_SUCH_PATH, "if !rayserve_public or rayserve_forbidden"),
        answer_rule(too_large(settings.max_body_bytes), f"if {large}"),
        f"http-request wait-for-body time {settings.body_seconds}s if METH_POST",
        *_model_rules(apps),
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
    return f"{returned} string '{answer.body}' {condition}".rstrip()
