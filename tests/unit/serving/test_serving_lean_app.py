"""What vLLM's server loses on its way into a replica, and that nothing else changes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.middleware.cors import CORSMiddleware

pytest.importorskip("vllm", reason="the bridge is vLLM's")
pytest.importorskip("prometheus_fastapi_instrumentator", reason="vLLM's server has it")

from prometheus_fastapi_instrumentator import Instrumentator
from prometheus_fastapi_instrumentator.middleware import PrometheusInstrumentatorMiddleware
from vllm.entrypoints.serve.sagemaker.api_router import sagemaker_standards_bootstrap

from rayserve_par.serving.vllm_bridge.lean_app import make_lean

CHAT, RESPONSES = "/v1/chat/completions", "/v1/responses"


def _app() -> FastAPI:
    app = FastAPI()
    app.add_middleware(CORSMiddleware, allow_origins=["*"])
    Instrumentator().instrument(app)
    for method, path, answer in (
        ("GET", "/version", "version"),
        ("GET", RESPONSES, "listed"),
        ("POST", RESPONSES, "response"),
        ("POST", "/v1/{anything}", "any"),
        ("POST", "/v1/completions", "hidden"),
        ("POST", CHAT, "chat"),
    ):
        app.add_api_route(path, _answering(answer), methods=[method])
    return app


def _answering(answer: str):
    async def handler() -> str:
        return answer

    return handler


def test_what_nobody_reads_goes_and_the_engine_s_routes_come_first() -> None:
    app = _app()
    make_lean(app)
    assert [each.cls for each in app.user_middleware] == [CORSMiddleware]
    assert [route.path for route in app.router.routes][:2] == [CHAT, RESPONSES]


def _built(app: FastAPI) -> Iterator[type]:
    """The classes of the middleware that requests go through, the outermost first."""
    layer: Any = app.middleware_stack
    while layer is not None:
        yield type(layer)
        layer = getattr(layer, "app", None)


def test_middleware_that_vllm_has_built_goes_as_well() -> None:
    app = sagemaker_standards_bootstrap(_app())
    assert PrometheusInstrumentatorMiddleware in _built(app), (
        "vLLM builds it no more; test the rest"
    )
    make_lean(app)
    assert PrometheusInstrumentatorMiddleware not in _built(app)
    assert CORSMiddleware in _built(app)


def test_every_request_has_the_answer_that_it_had() -> None:
    asked = [
        (method, path)
        for method in ("GET", "POST", "DELETE")
        for path in ("/version", RESPONSES, "/v1/completions", "/v1/other", CHAT, "/nothing")
    ]

    def answers(app: FastAPI) -> list[tuple[int, str]]:
        client = TestClient(app)
        found = [client.request(method, path) for method, path in asked]
        return [(answer.status_code, answer.text) for answer in found]

    lean = _app()
    make_lean(lean)
    assert answers(lean) == answers(_app())
