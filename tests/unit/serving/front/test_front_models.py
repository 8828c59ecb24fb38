"""Many models on one URL, through the real HAProxy."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import pairwise

import pytest
from front_harness import Front
from front_replica import Replica, free_port, wait_until

BUFFER_BYTES = 65536


@pytest.fixture(scope="module")
def front(make_front: Callable[..., Front]) -> Front:
    return make_front(
        {("llama", "/llama"): ["l0"], ("qwen", "/q"): ["q0"]},
        names={"llama": ("llama", "gpt-4o", "org/llama"), "qwen": ("qwen", "\u4e2d\u00e8")},
        RAYSERVE_PAR_FRONT_BUFFER_BYTES=str(BUFFER_BYTES),
    )


def replica(front: Front, name: str) -> Replica:
    return next(one for one in front.replicas if one.name == name)


FILLER = [{"role": "user", "content": 'He said: "model": "wrong", {"model": "wrong"}'}]


@pytest.mark.parametrize(
    ("path", "body", "chosen", "target"),
    [
        ("/v1/chat/completions", {"model": "llama"}, "l0", "/llama/v1/chat/completions"),
        ("/v1/chat/completions", {"model": "gpt-4o"}, "l0", "/llama/v1/chat/completions"),
        ("/v1/completions?x=1", {"model": "org/llama"}, "l0", "/llama/v1/completions?x=1"),
        ("/v1/completions", {"messages": FILLER, "model": "qwen"}, "q0", "/q/v1/completions"),
        ("/v1/embeddings", {"meta": {"model": "llama"}, "model": "qwen"}, "q0", "/q/v1/embeddings"),
        ("/tokenize", {"model": "qwen"}, "q0", "/q/tokenize"),
        # Own prefix: untouched, whatever the body says.
        ("/llama/v1/completions", {"model": "qwen"}, "l0", "/llama/v1/completions"),
        ("/q/v1/completions", b"\x00 not JSON", "q0", "/q/v1/completions"),
        # Escapes are decoded.
        ("/v1/completions", b'{"model":"ll\\u0061ma"}', "l0", "/llama/v1/completions"),
        ("/v1/completions", rb'{"model":"org\/llama"}', "l0", "/llama/v1/completions"),
        ("/v1/completions", rb'{"model":"\u4e2d\u00e8"}', "q0", "/q/v1/completions"),
        ("/v1/completions", '{"model":"\u4e2d\u00e8"}'.encode(), "q0", "/q/v1/completions"),
        (
            "/v1/completions",
            b'{"tools":' + b"[" * 40 + b"]" * 40 + b',"model":"qwen"}',
            "q0",
            "/q/v1/completions",
        ),
        ("/v1/realtime?model=qwen", {}, "q0", "/q/v1/realtime?model=qwen"),
    ],
)
def test_the_model_selects_the_app(
    front: Front, path: str, body: object, chosen: str, target: str
) -> None:
    reply = front.request("POST", path, body)
    assert reply.status == 200
    assert (reply.json["replica"], reply.json["target"]) == (chosen, target)


@pytest.mark.parametrize(
    "part",
    [
        'Content-Disposition: form-data; name="model"',
        "Content-Disposition: form-data; name=model",
        'content-disposition: form-data; name="model"\r\ncontent-type: text/plain',
        'Content-Type: text/plain\r\nContent-Disposition: form-data;name="model"',
        *(
            f"Content-Disposition: form-data; {other}\r\n\r\nllama\r\n--B\r\n"
            'Content-Disposition: form-data; name="model"'
            for other in (
                'name="model_version"',
                "name=model_version",
                'name="my model"',
                'name="f"; filename="model"',
                'filename="; name=model"; name="f"',
                'filename="\\"; name=model"; name="f"',
                'name=""',
            )
        ),
    ],
)
def test_a_form_s_model_selects_the_app(front: Front, part: str) -> None:
    form = f"--B\r\n{part}\r\n\r\nqwen\r\n--B\r\nContent-Disposition: form-data; name=file\r\n\r\n"
    body = form.encode() + bytes(range(256)) + b"\r\n--B--\r\n"
    reply = front.request(
        "POST",
        "/v1/audio/transcriptions",
        body,
        {"content-type": "multipart/form-data; boundary=B"},
    )
    assert (reply.status, reply.json["replica"]) == (200, "q0")
    assert replica(front, "q0").requests[-1].body == body


def test_a_long_body_arrives_whole(front: Front) -> None:
    body = {"model": "qwen", "messages": [{"role": "user", "content": "x" * 4 * BUFFER_BYTES}]}
    reply = front.chat(body)
    assert (reply.status, reply.json["bytes"]) == (200, len(json.dumps(body)))


def test_a_model_behind_the_buffer_is_413_with_advice(front: Front) -> None:
    error = front.chat({"messages": "x" * 4 * BUFFER_BYTES, "model": "qwen"}).error
    assert "`model` first" in error["message"]
    assert "RAYSERVE_PAR_FRONT_BUFFER_BYTES" in error["message"]
    reply = front.request(
        "POST",
        "/v1/audio/transcriptions",
        b'--B\r\nContent-Disposition: form-data; name="file"\r\n\r\n' + b"x" * 2 * BUFFER_BYTES,
        {"content-type": "multipart/form-data; boundary=B"},
    )
    assert (reply.status, reply.error["code"]) == (413, "model_not_in_sight")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"model": "nope"}, 404, "model_not_found"),
        ({"model": 'a"b\\c\n\u00e4'}, 404, "model_not_found"),
        ({"model": 7}, 404, "model_not_found"),
        (b'{"model":"\xff\xfe\x01"}', 404, "model_not_found"),
        ({"messages": []}, 400, "missing_required_parameter"),
        ({"model": ""}, 400, "missing_required_parameter"),
        (b"", 400, "missing_required_parameter"),
        (b"{", 400, "missing_required_parameter"),
        (b"[" * 50000, 400, "missing_required_parameter"),
        (b'{"a":' + b"[" * 60000, 400, "missing_required_parameter"),
        (b"\x00\xff" * 1000, 400, "missing_required_parameter"),
        # HAProxy's own search reads this escape as the byte C3, A9: two would be one letter.
        (rb'{"model":"\u00c3\u00a9"}', 404, "model_not_found"),
    ],
)
def test_an_unusable_model_is_an_error_that_lists_the_known(
    front: Front, body: object, status: int, code: str
) -> None:
    start = time.monotonic()
    reply = front.chat(body)
    assert (reply.status, reply.error["code"], reply.error["param"]) == (status, code, "model")
    assert "gpt-4o, llama, org/llama, qwen, \u4e2d\u00e8" in reply.error["message"]
    assert time.monotonic() - start < 1


def test_the_model_list_is_the_replicas_own_documents(front: Front) -> None:
    listed = front.get("/v1/models").json
    documents = [one for each in front.replicas for one in each.models["data"]]
    assert listed == {"object": "list", "data": documents}
    assert front.get("/q/v1/models").json == replica(front, "q0").models


def test_one_model_is_looked_up_by_name(front: Front) -> None:
    documents = replica(front, "l0").models["data"]
    assert front.get("/v1/models/gpt-4o").json == documents[1]
    assert front.get("/v1/models/org%2Fllama").json == documents[2]
    assert front.get("/v1/models/org/llama").json == documents[2]
    assert front.get("/llama/v1/models/llama").json == documents[0]
    assert front.get("/v1/models/none").error["code"] == "model_not_found"
    assert front.get("/q/v1/models/llama").status == 404


def test_the_model_list_needs_the_key_that_the_replicas_need(front: Front) -> None:
    for one in front.replicas:
        one.key = "secret"
    try:
        assert front.get("/v1/models").status == 401
        assert front.get("/v1/models/qwen").status == 401
        listed = front.get("/v1/models", Authorization="Bearer secret")
        assert len(listed.json["data"]) == 5
    finally:
        for one in front.replicas:
            one.key = None


def test_requests_without_a_model_go_to_a_living_app(front: Front) -> None:
    assert front.get("/version").json["target"] == "/llama/version"
    assert front.get("/health").status == 200
    assert front.request("OPTIONS", "/v1/chat/completions").status == 200


def test_polling_is_at_most_twice_a_second(front: Front) -> None:
    polls = replica(front, "q0").polls
    wait_until(lambda: len(polls) >= 4, "what is asked before HAProxy starts, and three polls")
    assert min(later - sooner for sooner, later in pairwise(polls[1:])) > 0.4


def test_an_added_model_a_dead_one_and_a_removed_one(make_front: Callable[..., Front]) -> None:
    """One front's life; the other model's stream runs through all of it."""
    front = make_front({("llama", "/llama"): ["l0"]}, names={"llama": ("llama", "alias")})
    alone = front.chat({"model": "anything"}).json
    assert alone["target"] == "/llama/v1/chat/completions"
    assert front.get("/v1/models/alias").json["id"] == "alias"

    qwen = Replica(name="q0", port=free_port(), prefix="/q", names=("qwen",))
    front.loop.run(qwen.start())
    front.apps["qwen", "/q"] = [qwen]
    front.reload()
    # The first poll may not have been answered: waited for, not 404.
    assert front.chosen({"model": "qwen"}) == "q0"
    assert front.chosen({"model": "alias"}) == "l0"

    front.loop.run(qwen.kill())
    wait_until(lambda: front.server_status("qwen", "q0") == "DOWN", "the dead one is down")
    reply = front.chat({"model": "qwen"})
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    front.reload()
    assert front.chat({"model": "qwen"}).status == 503
    assert front.chat({"model": "nope"}).status == 404
    assert [one["id"] for one in front.get("/v1/models").json["data"]] == ["llama", "alias"]
    assert front.chosen({"model": "llama"}) == "l0"

    del front.apps["qwen", "/q"]
    front.apps["third", "/third"] = []
    front.reload()
    assert front.chat({"model": "third"}).status == 503
    reply = front.chat({"model": "qwen"})
    assert (reply.status, reply.error["code"]) == (404, "model_not_found")
    assert reply.error["message"].endswith("Known models: alias, llama.")


def test_a_front_that_knows_no_application_yet_says_so(make_front: Callable[..., Front]) -> None:
    front = make_front({})
    reply = front.request("POST", "/v1/chat/completions", {"model": "any"})
    assert reply.status == 503
    assert int(reply.headers["retry-after"]) > 0
    assert "starting" in reply.error["message"]
    assert front.request("GET", "/metrics").status == 404


def test_while_no_model_is_known_none_is_called_unknown(make_front: Callable[..., Front]) -> None:
    front = make_front({("a", "/a"): [], ("b", "/b"): []})
    reply = front.chat({"model": "some-model"})
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")
    assert reply.error["code"] == "model_not_ready"
