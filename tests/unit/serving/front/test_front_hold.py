"""A model without an instance: its requests go to Serve's Python proxy where the front holds."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from front_harness import Front
from front_replica import wait_until

BODY = {"model": "m", "messages": [{"role": "user", "content": "hello"}]}


@pytest.mark.parametrize(("hold", "answer"), [("true", "proxy"), ("false", None)])
def test_who_answers_for_a_model_without_an_instance(
    make_front: Callable[..., Front], hold: str, answer: str | None
) -> None:
    front = make_front({("m", "/"): ["a"]}, proxy=True, RAYSERVE_PAR_FRONT_HOLD=hold)
    [instance, proxy] = front.replicas
    wait_until(lambda: front.server_status("m", "a") == "UP", "the instance is up")
    assert front.chosen(BODY) == "a"
    assert proxy.requests == [], "the proxy gets nothing while an instance is there"

    front.loop.run(instance.kill())
    front.apps["m", "/"] = []  # as when Serve has scaled to zero
    front.reload()
    wait_until(lambda: front.chat(BODY).status == (200 if answer else 503), "HAProxy has seen it")
    if answer is None:
        assert proxy.requests == []
        assert front.chat(BODY).error["type"] == "service_unavailable"
    else:
        assert front.chosen(BODY) == answer
        assert front.get("/v1/models").status == 200

    front.apps["m", "/"] = [instance]
    front.loop.run(instance.start())
    front.reload()
    wait_until(lambda: front.server_status("m", "a") == "UP", "the instance is back")
    wait_until(lambda: front.chosen(BODY) == "a", "the instance answers again")
