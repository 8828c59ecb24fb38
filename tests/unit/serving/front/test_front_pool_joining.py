"""Applications that say late what they are, through the real HAProxy: nothing is started anew."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from front_harness import Front, Reply
from front_held import held
from front_replica import Replica, free_port, wait_until

GROUPS = {"slow": "H100", "fast": "H200", "third": "L4"}
LOADS = {name: {"node_group": group} for name, group in GROUPS.items()}
NAMES = dict.fromkeys(GROUPS, ("chat", "gpt"))
PREFIX = "x-rayserve-par-prefix"
MakeFront = Callable[..., Front]


def chat(text: str = "x") -> dict[str, Any]:
    return {"model": "chat", "messages": [{"role": "user", "content": text}]}


def apps(**replicas: str) -> dict[tuple[str, str], list[str]]:
    return {(app, f"/{app}"): names.split() for app, names in replicas.items()}


def replica(front: Front, name: str) -> Replica:
    return next(one for one in front.replicas if one.name == name)


_NEW = itertools.count()


def new_prompt() -> dict[str, Any]:
    """One that no instance knows."""
    return chat(f"{next(_NEW)} " * 300)


def chosen(front: Front, count: int = 24) -> set[str]:
    return {front.chosen(new_prompt()) for _ in range(count)}


def are_one_pool(front: Front, *names: str) -> None:
    def all_are_chosen() -> bool:
        return front.chat(chat()).status == 200 and chosen(front) == set(names)

    wait_until(all_are_chosen, f"{names} are one pool")


def answer_now(front: Front) -> None:
    for one in front.replicas:
        one.silent = False


def heard(front: Front, name: str) -> None:
    """What it says is known."""
    one = replica(front, name)
    one.polls.clear()
    wait_until(lambda: len(one.polls) >= 2, f"{name} was asked")


def process(front: Front) -> int:
    assert front.api._proc is not None
    return int(front.api._proc.pid)


@pytest.mark.parametrize("silent", [["slow"], ["fast"], ["slow", "fast"]])
def test_an_application_that_answers_late_joins_its_pool(
    make_front: MakeFront, silent: Sequence[str]
) -> None:
    front = make_front(apps(slow="s0", fast="f0"), names=NAMES, loads=LOADS, silent=silent)
    began = process(front)
    if len(silent) == 1:
        wait_until(lambda: len(chosen(front, 8)) == 1, "one of them is known to serve it")
    answer_now(front)
    are_one_pool(front, "s0", "f0")
    for one in front.replicas:
        one.requests.clear()
    replica(front, "s0").mode = "shed"
    assert chosen(front) == {"f0"}
    moved = [one for one in replica(front, "f0").requests if one.headers[PREFIX] == "/slow"]
    assert len(moved) == len(replica(front, "s0").requests) > 0
    replica(front, "s0").mode = "ok"
    own = [front.request("POST", "/slow/v1/completions", chat()) for _ in range(6)]
    assert {one.json["replica"] for one in own} == {"s0"}
    with held(front, [chat()]):
        assert front.loop.run(front.api.count_ongoing_http_requests()) == 1
    assert front.loop.run(front.api.compute_target_mismatch()) == 0
    assert process(front) == began


def test_a_third_one_joins_without_a_request_being_missed(make_front: MakeFront) -> None:
    front = make_front(
        apps(slow="s0", fast="f0", third="t0"), names=NAMES, loads=LOADS, silent=["third"]
    )
    are_one_pool(front, "s0", "f0")
    stop = threading.Event()

    def ask_on() -> list[Reply]:
        replies = []
        while not stop.is_set():
            replies.append(front.chat(new_prompt()))
        return replies

    with ThreadPoolExecutor(max_workers=8) as threads:
        replica(front, "s0").mode = "hold"
        under_way = [threads.submit(front.request, "POST", "/slow/v1/completions", chat())]
        wait_until(lambda: replica(front, "s0").in_flight == 1, "it has arrived")
        replica(front, "s0").mode = "ok"
        asking = [threads.submit(ask_on) for _ in range(2)]
        time.sleep(0.5)
        assert replica(front, "t0").requests == []
        answer_now(front)
        wait_until(lambda: len(replica(front, "t0").requests) > 5, "the third one is asked")
        stop.set()
        front.loop.loop.call_soon_threadsafe(replica(front, "s0").released.set)
        replies = [reply for one in asking for reply in one.result()]
        replies += [one.result() for one in under_way]
    assert {reply.status for reply in replies} == {200}
    assert {reply.json["replica"] for reply in replies} == {"s0", "f0", "t0"}


def test_nothing_is_sent_to_an_application_that_may_be_another(make_front: MakeFront) -> None:
    """Not even once more, where all of the pool refuse."""
    front = make_front(
        apps(slow="s0", fast="f0", third="t0"), names=NAMES, loads=LOADS, silent=["third"]
    )
    for name in ("s0", "f0"):
        replica(front, name).mode = "shed"
    for _ in range(12):
        assert front.chat(new_prompt()).status == 503
    assert replica(front, "t0").requests == []


def test_who_joins_leaves_prompts_and_sessions_where_they_are(make_front: MakeFront) -> None:
    front = make_front(apps(slow="s0", fast="f0 f1"), names=NAMES, loads=LOADS, silent=["slow"])
    wait_until(lambda: chosen(front, 8) <= {"f0", "f1"}, "the fast one is known to serve it")

    def homes() -> list[str]:
        prompts = [front.chosen(chat(f"prompt {n} " * 200)) for n in range(12)]
        return prompts + [front.chosen(chat("y"), **{"x-session-id": f"{n}"}) for n in range(12)]

    before = homes()
    assert set(before) == {"f0", "f1"}
    answer_now(front)
    are_one_pool(front, "s0", "f0", "f1")
    assert homes() == before


@pytest.mark.parametrize(
    ("names", "group"), [(("other",), "H100"), (("chat", "gpt"), "H200"), (("chat", "gpt"), None)]
)
def test_an_application_that_is_none_of_the_pool_stays_outside(
    make_front: MakeFront, names: tuple[str, ...], group: str | None
) -> None:
    front = make_front(
        apps(fast="f0", slow="s0"),
        names={**NAMES, "slow": names},
        loads={**LOADS, "slow": {"node_group": group}},
        silent=["slow"],
    )
    wait_until(lambda: front.chat(chat()).status == 200, "the fast one is known to serve it")
    answer_now(front)
    heard(front, "s0")
    assert chosen(front) == {"f0"}
    assert PREFIX not in replica(front, "f0").requests[-1].headers
    if names == ("other",):
        assert front.chosen({**chat(), "model": "other"}) == "s0"


def test_an_application_that_was_deployed_anew_leaves_the_pool_when_it_says_so(
    make_front: MakeFront,
) -> None:
    front = make_front(apps(slow="s0", fast="f0"), names=NAMES, loads=LOADS)
    are_one_pool(front, "s0", "f0")
    new = Replica("f1", free_port(), "/fast", ("new",), load=dict(LOADS["fast"]), silent=True)
    front.loop.run(new.start())
    front.apps["fast", "/fast"] = [new]
    front.reload()
    # Until it answers it is what its former instance said.
    assert front.chat(chat()).status == 200
    answer_now(front)
    wait_until(lambda: front.chat({**chat(), "model": "new"}).status == 200, "its name is known")
    heard(front, "f1")
    assert chosen(front) == {"s0"}
    assert front.chosen({**chat(), "model": "new"}) == "f1"
    new.requests.clear()
    replica(front, "s0").mode = "shed"
    for _ in range(8):
        assert front.chat(new_prompt()).status == 503
    assert new.requests == []


def test_a_reload_keeps_who_joined_and_asks_on_who_has_not(make_front: MakeFront) -> None:
    front = make_front(
        apps(slow="s0", fast="f0", third="t0"), names=NAMES, loads=LOADS, silent=["slow", "third"]
    )
    replica(front, "s0").silent = False
    are_one_pool(front, "s0", "f0")
    front.reload()
    assert chosen(front) == {"s0", "f0"}
    answer_now(front)
    are_one_pool(front, "s0", "f0", "t0")
    front.reload()
    assert chosen(front) == {"s0", "f0", "t0"}
    replica(front, "s0").mode = replica(front, "t0").mode = "shed"
    replies = [front.chat(new_prompt()) for _ in range(24)]
    assert {one.json["replica"] for one in replies if one.status == 200} == {"f0"}


def test_an_application_that_does_not_answer_is_asked_ever_more_seldom(
    make_front: MakeFront,
) -> None:
    front = make_front(apps(slow="s0", fast="f0"), names=NAMES, loads=LOADS, silent=["slow"])
    one = replica(front, "s0")
    one.polls.clear()
    wait_until(lambda: len(one.polls) >= 3, "it was asked")
    first, second, third = one.polls[:3]
    assert third - second > 1.5 * (second - first) > 0.75
    # It is gone: it is asked no more, and nothing waits for it.
    front.loop.run(one.kill())
    front.apps["slow", "/slow"] = []
    front.reload()
    one.polls.clear()
    assert chosen(front, 8) == {"f0"}
    assert one.polls == []


def test_a_reload_that_hears_first_what_an_application_is_takes_it_out_of_maintenance(
    make_front: MakeFront,
) -> None:
    front = make_front(apps(slow="s0", fast="f0"), names=NAMES, loads=LOADS, silent=["slow"])
    wait_until(lambda: chosen(front, 8) == {"f0"}, "the fast one is known to serve it")
    heard(front, "s0")
    answer_now(front)
    front.reload()
    assert chosen(front) == {"s0", "f0"}
    replica(front, "f0").mode = "shed"
    assert chosen(front) == {"s0"}


def test_who_joins_takes_what_its_instances_can_serve(make_front: MakeFront) -> None:
    front = make_front(
        apps(slow="s0", fast="f0"),
        names=NAMES,
        loads={
            "slow": {**LOADS["slow"], "full_requests_per_second": 1.0},
            "fast": {**LOADS["fast"], "full_requests_per_second": 3.0},
        },
        silent=["fast"],
        RAYSERVE_PAR_ROUTING="least-loaded",
    )
    wait_until(lambda: chosen(front, 8) == {"s0"}, "the slow one is known to serve it")
    answer_now(front)
    are_one_pool(front, "s0", "f0")
    heard(front, "s0")
    heard(front, "f0")
    with held(front, [new_prompt() for _ in range(32)]) as waiting:
        assert waiting["s0"] == pytest.approx(8, abs=1)
