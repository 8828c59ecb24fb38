"""Who reaches the application: public paths, keys, their models, and requests without a key."""

import asyncio
import json
from typing import Any

import pytest
from middleware_harness import BODY, CHAT, NODE, Application, bearer, error_of, gate_of, key, served

from rayserve_par.serving.admission.args import LimitArgs
from rayserve_par.serving.admission.keys import KeyEntry
from rayserve_par.serving.admission.paths import is_public


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v1/models", 200),
        ("/v1/responses/abc", 200),
        ("/version", 200),
        ("/openapi.json", 200),
        ("/docs", 200),
        ("/health", 200),
        ("/metrics", 404),
        ("/internal/anything", 404),
        ("/load", 404),
        ("/server_info", 404),
        ("/reset_prefix_cache", 404),
        ("/sleep", 404),
        ("/wake_up", 404),
        ("/collective_rpc", 404),
        ("/start_profile", 404),
        ("/v1/load_lora_adapter", 404),
        ("/v1/unload_lora_adapter", 404),
        ("/invocations", 404),
        ("/", 404),
        ("/v1", 404),
        ("/V1/models", 404),
        ("//metrics", 404),
        ("/docs/../metrics", 404),
    ],
)
def test_only_public_paths_reach_the_application(path: str, status: int) -> None:
    async def scenario() -> None:
        app = Application()
        async with served(app, gate_of(), root_path="/llama") as session:
            answer = await session.get(f"/llama{path}")
            assert answer.status_code == status
            assert len(app.seen) == (status == 200)
            if status == 404:
                assert error_of(answer)["code"] == "not_found"

    asyncio.run(scenario())


OTHER = "203.0.113.9"


def test_the_status_document_is_the_middlewares_own() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key(), facts={"node_group": "H200", "full_requests_per_second": 2.5})
        async with served(app, gate, OTHER) as session:
            answer = await session.get("/internal/front")
            assert answer.json() == {
                "model": "m",
                "names": ["m", "alias"],
                "running": 3,
                "waiting": 1,
                "kv_usage": 0.25,
                "in_flight": 0,
                "limit": 512,
                "draining": False,
                "node_group": "H200",
                "full_requests_per_second": 2.5,
            }
            gate.draining = True
            assert (await session.get("/internal/front")).json()["draining"] is True
        assert app.seen == []

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("client", "front", "is_open", "status"),
    [
        ("127.0.0.1", False, False, 200),
        ("127.9.9.9", False, False, 200),
        ("::1", False, False, 200),
        ("::ffff:127.0.0.1", False, False, 200),
        (NODE, True, False, 200),
        (f"::ffff:{NODE}", True, False, 200),
        (NODE, False, False, 403),
        (OTHER, True, False, 403),  # the header alone can be forged
        (OTHER, False, False, 403),
        (OTHER, False, True, 200),
        ("not-an-address", False, False, 403),
    ],
)
def test_without_keys_only_this_machine_and_the_front_are_served(
    client: str, front: bool, is_open: bool, status: int
) -> None:
    async def scenario() -> None:
        headers = {"x-rayserve-par-front": "1"} if front else {}
        async with served(Application(), gate_of(open=is_open), client) as session:
            for answer in (
                await session.get("/v1/models", headers=headers),
                await session.post(CHAT, json=BODY, headers=headers),
            ):
                assert answer.status_code == status
                if status == 403:
                    assert "rayserve-par keys new" in error_of(answer)["message"]
            assert (await session.get("/health")).status_code == 200

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("headers", "code"),
    [
        ({}, "missing_api_key"),
        ({"authorization": "Bearer "}, "missing_api_key"),
        ({"authorization": "Basic secret-alice"}, "missing_api_key"),
        ({"authorization": "Bearer secret-bob"}, "invalid_api_key"),
        ({"authorization": "Bearer secret-old"}, "invalid_api_key"),
        ({"x-api-key": "wrong"}, "invalid_api_key"),
        ({"authorization": "bearer secret-alice"}, None),
        ({"x-api-key": "secret-alice"}, None),
    ],
)
def test_keys(headers: dict[str, str], code: str | None) -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key(), key("old", expires="2020-01-01"), open=True)
        async with served(app, gate, OTHER) as session:
            answer = await session.post(CHAT, json=BODY, headers=headers)
            if code is None:
                assert answer.status_code == 200
            else:
                assert answer.status_code == 401
                assert error_of(answer)["code"] == code
                assert app.seen == []
            assert (await session.get("/health")).status_code == 200
            assert (await session.options(CHAT)).status_code == 200

    asyncio.run(scenario())


def test_the_application_sees_the_body_the_priority_and_the_key() -> None:
    async def scenario() -> None:
        app = Application()
        limits = LimitArgs(tokens_per_minute=100)
        gate = gate_of(key(priority=-3, limits=limits), key("bob"))
        async with served(app, gate) as session:
            await session.post(CHAT, json=BODY, headers={**bearer(), "x-request-id": "mine"})
            await session.post(CHAT, json=BODY, headers=bearer("bob"))
        alice, bob = app.seen
        assert json.loads(alice["body"]) == BODY
        assert (alice["priority"], alice["key"], alice["usage"]) == (-3, "alice", "mine")
        assert (bob["priority"], bob["key"], bob["usage"]) == (0, "bob", None)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("models", "body", "status"),
    [
        (("m",), BODY, 200),
        (("m",), {**BODY, "model": "alias"}, 200),
        (("m",), {"messages": []}, 200),  # the instance's own model
        (("other",), BODY, 403),
        (("other",), {"messages": []}, 403),
        (("m",), {**BODY, "model": ["m"]}, 403),
    ],
)
def test_models_of_a_key(models: tuple[str, ...], body: Any, status: int) -> None:
    async def scenario() -> None:
        async with served(Application(), gate_of(key(models=models))) as session:
            answer = await session.post(CHAT, json=body, headers=bearer())
            assert answer.status_code == status
            if status == 403:
                assert error_of(answer)["code"] == "model_not_allowed"

    asyncio.run(scenario())


def form_of(*models: str, name: str = "model") -> tuple[bytes, dict[str, str]]:
    parts = [
        f'--B\r\ncontent-disposition: form-data; name="{name}"\r\n\r\n{model}\r\n'
        for model in models
    ]
    sound = '--B\r\ncontent-disposition: form-data; name="file"; filename="model"\r\n\r\nx\r\n'
    return (
        "".join([sound, *parts, "--B--\r\n"]).encode(),
        {"content-type": "multipart/form-data; boundary=B"},
    )


@pytest.mark.parametrize(
    ("models", "name", "status"),
    [
        (("m",), "model", 200),
        (("alias",), "model", 200),
        ((), "model", 200),
        (("adapter",), "model", 403),
        (("m", "adapter"), "model", 403),
        (("adapter", "m"), "model", 403),
        (("adapter",), "xmodel", 200),  # another field
    ],
)
def test_models_of_a_key_hold_for_forms(models: tuple[str, ...], name: str, status: int) -> None:
    async def scenario() -> None:
        body, headers = form_of(*models, name=name)
        app = Application()
        async with served(app, gate_of(key(models=("m",)))) as session:
            path = "/v1/audio/transcriptions"
            answer = await session.post(path, content=body, headers={**headers, **bearer()})
            assert answer.status_code == status
            assert [seen["body"].encode() for seen in app.seen] == [body] * (status == 200)
            broken = {"content-type": "multipart/form-data"}
            answer = await session.post(path, content=body, headers={**broken, **bearer()})
            assert answer.status_code == 400
            assert error_of(answer)["code"] == "invalid_form"

    asyncio.run(scenario())


@pytest.mark.parametrize("path", ["/v1/load_lora_adapter\n", "/v1/models\0", "/v1/models\x7f"])
def test_paths_with_control_characters_are_not_public(path: str) -> None:
    assert not is_public(path)
    assert is_public("/v1/models/one two")


@pytest.mark.parametrize(("keys", "is_open"), [((), True), ((key(),), False)])
def test_addresses_are_not_asked_for_where_nobody_needs_them(
    keys: tuple[KeyEntry, ...], is_open: bool
) -> None:
    async def scenario() -> None:
        gate = gate_of(*keys, open=is_open)
        await gate.start()
        assert gate.addresses == frozenset()
        await gate.stop()

    asyncio.run(scenario())
