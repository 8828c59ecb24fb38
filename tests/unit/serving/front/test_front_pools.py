"""One model served by several applications, through the real HAProxy."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from front_harness import Front
from front_held import held
from front_replica import Replica, free_port, wait_until

H100, H200 = {"node_group": "H100"}, {"node_group": "H200"}
NAMES = {"slow": ("chat", "gpt"), "fast": ("chat", "gpt"), "other": ("other",)}
PREFIX = "x-rayserve-par-prefix"
MakeFront = Callable[..., Front]


def chat(text: str = "x") -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}]}


def replica(front: Front, name: str) -> Replica:
    return next(one for one in front.replicas if one.name == name)


def asked_again(front: Front) -> None:
    for one in front.replicas:
        one.polls.clear()
    living = [one for one in front.replicas if one._server is not None]
    wait_until(lambda: all(len(one.polls) >= 2 for one in living), "all were asked again")


@pytest.fixture
def front(make_front: MakeFront) -> Front:
    return make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0", "f1"], ("other", "/other"): ["o0"]},
        names=NAMES,
        loads={"slow": H100, "fast": H200},
    )


def test_requests_for_the_name_reach_all_applications_and_are_told_their_path(
    front: Front,
) -> None:
    chosen = Counter(front.chosen(chat(f"{n} " * 300)) for n in range(40))
    assert set(chosen) == {"s0", "f0", "f1"}
    for name in chosen:
        prefix = "/slow" if name == "s0" else "/fast"
        for request in replica(front, name).requests:
            assert request.target == f"{prefix}/v1/chat/completions"
            assert request.headers[PREFIX] == prefix
    assert front.chosen({**chat(), "model": "other"}) == "o0"
    assert PREFIX not in replica(front, "o0").requests[-1].headers


def test_a_client_cannot_say_what_its_path_begins_with(front: Front) -> None:
    front.chosen({**chat(), "model": "other"}, **{PREFIX: "/slow"})
    assert PREFIX not in replica(front, "o0").requests[-1].headers


def test_an_application_s_own_prefix_is_that_application(front: Front) -> None:
    for n in range(12):
        reply = front.request("POST", "/slow/v1/completions", chat(f"{n} " * 300))
        assert reply.json["replica"] == "s0"


def test_prompts_and_sessions_keep_to_one_instance_of_the_pool(front: Front) -> None:
    for n in range(8):
        assert len({front.chosen(chat(f"prompt {n} " * 200)) for _ in range(4)}) == 1
    homes = [front.chosen(chat("y"), **{"x-session-id": f"{n}"}) for n in range(12)]
    assert [front.chosen(chat("z"), **{"x-session-id": f"{n}"}) for n in range(12)] == homes


def test_the_pool_is_one_model_in_the_list(front: Front) -> None:
    listed = [one["id"] for one in front.get("/v1/models").json["data"]]
    assert listed == ["other", "chat", "gpt"]
    assert front.get("/v1/models/gpt").json["id"] == "gpt"
    assert front.get("/fast/v1/models").json == replica(front, "f0").models
    front.loop.run(replica(front, "s0").kill())
    assert [one["id"] for one in front.get("/v1/models").json["data"]] == listed
    assert front.get("/v1/models/chat").status == 200


@pytest.mark.parametrize("mode", ["shed", "close", "reset"])
def test_a_request_is_tried_once_more_in_another_application(
    make_front: MakeFront, mode: str
) -> None:
    front = make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0"]},
        names=NAMES,
        loads={"slow": H100, "fast": H200},
    )
    replica(front, "s0").mode = mode
    for n in range(12):
        assert front.chosen(chat(f"{n} " * 300)) == "f0"
    assert replica(front, "s0").requests
    moved = [one for one in replica(front, "f0").requests if one.headers[PREFIX] == "/slow"]
    assert len(moved) == len(replica(front, "s0").requests)
    assert {one.target for one in moved} == {"/slow/v1/chat/completions"}


def test_an_application_whose_only_instance_dies_is_not_missed(front: Front) -> None:
    front.loop.run(replica(front, "s0").kill())
    chosen = [front.chosen(chat(f"{n} " * 300)) for n in range(30)]
    assert set(chosen) == {"f0", "f1"}
    wait_until(lambda: front.server_status("slow", "s0") == "DOWN", "the dead one is down")
    assert front.request("POST", "/slow/v1/completions", chat()).status == 503


def test_an_application_without_an_instance_is_not_missed(front: Front) -> None:
    front.chosen(chat())
    front.loop.run(replica(front, "s0").kill())
    front.apps["slow", "/slow"] = []
    front.reload()
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(20)} == {"f0", "f1"}
    for name in ("f0", "f1"):
        front.loop.run(replica(front, name).kill())
    front.apps["fast", "/fast"] = []
    front.reload()
    reply = front.chat(chat())
    assert (reply.status, reply.headers["retry-after"]) == (503, "5")


def test_serve_counts_a_pool_s_requests_before_it_stops_a_node_s_haproxy(front: Front) -> None:
    with held(front, [chat()]):
        assert front.loop.run(front.api.count_ongoing_http_requests()) == 1
    assert front.loop.run(front.api.compute_target_mismatch()) == 0


def test_an_application_joins_and_leaves_a_pool(make_front: MakeFront) -> None:
    front = make_front({("slow", "/slow"): ["s0"]}, names=NAMES, loads={"slow": H100})
    assert front.chosen(chat()) == "s0"
    fast = Replica("f0", free_port(), "/fast", NAMES["fast"], load=dict(H200))
    front.loop.run(fast.start())
    front.apps["fast", "/fast"] = [fast]
    front.reload()
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(20)} == {"s0", "f0"}
    # It is deployed anew under another name.
    new = Replica("f1", free_port(), "/fast", ("new",), load=dict(H200))
    front.loop.run(new.start())
    front.apps["fast", "/fast"] = [new]
    front.reload()
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(20)} == {"s0"}
    assert front.chosen({**chat(), "model": "new"}) == "f1"


@pytest.mark.parametrize(
    "loads", [{}, {"slow": H100}, {"slow": H200, "fast": H200}, {"slow": H100, "fast": {}}]
)
def test_applications_that_do_not_say_so_are_no_pool(
    make_front: MakeFront, loads: dict[str, dict[str, Any]]
) -> None:
    """As ever: the first one that lives has all."""
    front = make_front(
        {("fast", "/fast"): ["f0"], ("slow", "/slow"): ["s0"]}, names=NAMES, loads=loads
    )
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(12)} == {"f0"}
    assert PREFIX not in replica(front, "f0").requests[-1].headers


def test_with_holding_a_pool_without_an_instance_waits_and_one_with_any_does_not(
    make_front: MakeFront,
) -> None:
    front = make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0"]},
        names=NAMES,
        loads={"slow": H100, "fast": H200},
        proxy=True,
        RAYSERVE_PAR_FRONT_HOLD="true",
    )
    front.loop.run(replica(front, "s0").kill())
    front.apps["slow", "/slow"] = []  # as when Serve has scaled to zero
    front.reload()
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(12)} == {"f0"}
    assert replica(front, "proxy").requests == []
    front.loop.run(replica(front, "f0").kill())
    front.apps["fast", "/fast"] = []
    front.reload()
    proxy = replica(front, "proxy")

    def held_for_the_first() -> bool:
        """Any of the two until both are known to have ended."""
        return (
            front.chat(chat()).status == 200
            and proxy.requests[-1].target == "/fast/v1/chat/completions"
        )

    wait_until(held_for_the_first, "HAProxy has seen it")
    assert {front.chosen(chat(f"{n} " * 300)) for n in range(8)} == {"proxy"}


@pytest.mark.parametrize("policy", ["prefix", "least-loaded"])
@pytest.mark.parametrize(("rates", "slow"), [((1.0, 3.0), 8), ((2.0, 2.0), 16), ((None, None), 16)])
def test_the_faster_instance_takes_more(
    make_front: MakeFront, policy: str, rates: tuple[float | None, float | None], slow: int
) -> None:
    said = [
        group if rate is None else {**group, "full_requests_per_second": rate}
        for group, rate in zip((H100, H200), rates, strict=True)
    ]
    front = make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0"]},
        names=NAMES,
        loads=dict(zip(("slow", "fast"), said, strict=True)),
        RAYSERVE_PAR_ROUTING=policy,
    )
    asked_again(front)
    with held(front, [chat(f"{n} " * 300) for n in range(32)]) as waiting:
        assert waiting["s0"] == pytest.approx(slow, abs=1 if policy == "least-loaded" else 4)


def test_new_prompts_are_divided_by_what_instances_serve(make_front: MakeFront) -> None:
    front = make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0"]},
        names=NAMES,
        loads={
            "slow": {**H100, "full_requests_per_second": 1.0},
            "fast": {**H200, "full_requests_per_second": 4.0},
        },
    )
    asked_again(front)
    homes = [front.chosen(chat(f"{n} " * 1200)) for n in range(100)]
    # A fifth; half of them would be as far away as 7 standard deviations.
    assert 8 <= homes.count("s0") <= 32
    front.reload()
    asked_again(front)
    # Another HAProxy, which knows no prompt, orders the instances alike.
    again = [front.chosen(chat(f"{n} " * 1200)) for n in range(100)]
    assert sum(one == other for one, other in zip(homes, again, strict=True)) >= 90


@pytest.mark.parametrize("policy", ["prefix", "least-loaded", "power-of-two"])
def test_an_instance_at_its_limit_gets_nothing_while_another_has_room(
    make_front: MakeFront, policy: str
) -> None:
    """The slow one's limit is lower; that it would still be the less loaded does not count."""
    front = make_front(
        {("slow", "/slow"): ["s0"], ("fast", "/fast"): ["f0"]},
        names=NAMES,
        loads={
            "slow": {**H100, "limit": 3, "full_requests_per_second": 1.0},
            "fast": {**H200, "full_requests_per_second": 1.0},
        },
        RAYSERVE_PAR_ROUTING=policy,
    )
    asked_again(front)
    with held(front, [chat(f"{n} " * 300) for n in range(20)]) as waiting:
        assert waiting == {"s0": 3, "f0": 17}
