"""Which instance of a model gets a request, through the real HAProxy."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from front_harness import Front
from front_held import held
from front_replica import wait_until

NAMES = ["a", "b", "c", "d"]
POLICIES = ["prefix", "least-loaded", "power-of-two", "round-robin"]


@pytest.fixture(scope="module")
def fronts(make_front: Callable[..., Front]) -> Callable[[str], Front]:
    made: dict[str, Front] = {}

    def front_of(policy: str) -> Front:
        if policy not in made:
            made[policy] = make_front({("m", "/"): NAMES}, RAYSERVE_PAR_ROUTING=policy)
        front = made[policy]
        told(front)
        return front

    return front_of


def told(front: Front, **loads: dict[str, Any]) -> None:
    """Each replica says `loads[its name]`, and HAProxy has heard it."""
    if all(one.load == loads.get(one.name, {}) and one.polls for one in front.replicas):
        return
    for one in front.replicas:
        one.load = loads.get(one.name, {})
        one.mode = "ok"
        one.polls.clear()
    wait_until(lambda: all(len(one.polls) >= 2 for one in front.replicas), "all were asked again")


def prompt(system: str, *turns: str) -> dict[str, Any]:
    messages = [{"role": "system", "content": system}]
    messages += [{"role": "user", "content": turn} for turn in turns]
    return {"messages": messages, "model": "m"}


def text(seed: object, length: int) -> str:
    return "".join(random.Random(f"{seed}").choices("abcdefgh ", k=length))


def test_turns_of_a_conversation_stay_and_conversations_spread(
    fronts: Callable[[str], Front],
) -> None:
    front = fronts("prefix")
    homes = []
    for conversation in range(16):
        turns = [text((conversation, turn), 400) for turn in range(4)]
        places = {
            front.chosen(prompt("Be brief.", *turns[: length + 1])) for length in range(len(turns))
        }
        assert len(places) == 1
        homes += places
    assert len(set(homes)) >= 3


def test_a_shared_beginning_goes_where_it_was_computed(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    system = text("long system prompt", 5000)
    assert len({front.chosen(prompt(system, text(n, 300))) for n in range(12)}) == 1


def test_a_known_beginning_does_not_overload_its_instance(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    system = text("everyone asks this", 5000)
    with held(front, [prompt(system, text(n, 300)) for n in range(20)]) as waiting:
        # ceil(1.25 x 20 / 4) + 2 at most, and none much less than half of another.
        assert max(waiting.values()) <= 9
        assert 2 * min(waiting.values()) + 4 >= max(waiting.values())
        assert min(waiting.values()) >= 1


@pytest.mark.parametrize(
    "load",
    [
        {"in_flight": 50, "running": 50},
        {"in_flight": 12, "running": 2, "waiting": 10},
        {"in_flight": 4, "limit": 4},
        {"draining": True},
    ],
)
def test_a_loaded_instance_is_passed_over(
    fronts: Callable[[str], Front], load: dict[str, Any]
) -> None:
    front = fronts("prefix")
    body = prompt(text(("loaded", str(load)), 3000))
    home = front.chosen(body)
    session = "s"
    while front.chosen(prompt("x"), **{"x-session-id": session}) != home:
        session += "s"
    told(front, **{home: load})
    assert home not in {front.chosen(body) for _ in range(8)}
    assert home not in {front.chosen(prompt("x"), **{"x-session-id": session}) for _ in range(8)}
    told(front)
    # One that takes no requests at all loses its sessions; one that is only full keeps them.
    back = front.chosen(prompt("x"), **{"x-session-id": session}) == home
    assert back == ("draining" not in load)


def test_the_emptier_kv_cache_decides_between_equal_queues(
    fronts: Callable[[str], Front],
) -> None:
    front = fronts("least-loaded")
    busy = {"in_flight": 8, "running": 8}
    told(front, **{one: {**busy, "kv_usage": 0.9} for one in "abc"}, d={**busy, "kv_usage": 0.2})
    assert {front.chosen(prompt("x")) for _ in range(6)} == {"d"}


def test_a_session_stays_whatever_is_asked(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    homes = {}
    for session in map(str, range(16)):
        header = {"x-session-id": session}
        places = {front.chosen(prompt(text((session, n), 2000)), **header) for n in range(3)}
        assert len(places) == 1
        homes[session] = places.pop()
    assert len(set(homes.values())) >= 3
    assert {s: front.chosen(prompt("y"), **{"x-session-id": s}) for s in homes} == homes


def test_sessions_of_one_system_prompt_share_its_instance(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    system = text("system prompt of many sessions", 5000)
    places = {
        front.chosen(prompt(system, text(n, 300)), **{"x-session-id": f"shared {n}"})
        for n in range(12)
    }
    assert len(places) == 1


def test_most_sessions_find_home_after_a_reload(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    system = {s: text(("of session", s), 3000) for s in map(str, range(16))}
    header = {s: {"x-session-id": f"reload {s}"} for s in system}
    homes = {s: front.chosen(prompt(system[s], "first"), **header[s]) for s in system}
    short = {s: front.chosen(prompt("s"), **{"x-session-id": f"short {s}"}) for s in system}
    front.reload()
    after = {s: front.chosen(prompt(system[s], "first", "more"), **header[s]) for s in system}
    assert sum(after[s] == homes[s] for s in homes) >= 12
    again = {s: front.chosen(prompt("t"), **{"x-session-id": f"short {s}"}) for s in system}
    assert sum(again[s] == short[s] for s in short) >= 12


def test_knowledge_of_prompts_survives_a_reload(fronts: Callable[[str], Front]) -> None:
    front = fronts("prefix")
    bodies = [prompt(text(("kept", n), 2500)) for n in range(10)]
    homes = [front.chosen(body) for body in bodies]
    front.reload()
    assert [front.chosen(body) for body in bodies] == homes


@pytest.mark.parametrize("policy", POLICIES)
def test_load_is_balanced_under_skew(fronts: Callable[[str], Front], policy: str) -> None:
    """Half of the requests are one prompt, and half of all come from one session."""
    front = fronts(policy)
    popular = prompt(text("popular", 3000))
    bodies = [popular if n % 2 else prompt(text(("rare", n), 3000)) for n in range(24)]
    with held(front, bodies) as waiting:
        spread = sorted(waiting[name] for name in NAMES)
    highest = {"prefix": 10, "least-loaded": 6, "power-of-two": 10, "round-robin": 6}[policy]
    assert sum(spread) == 24
    assert spread[-1] <= highest
    if policy in ("least-loaded", "round-robin"):
        assert spread == [6, 6, 6, 6]


@pytest.mark.parametrize("policy", ["least-loaded", "power-of-two"])
def test_ties_are_broken_by_chance(fronts: Callable[[str], Front], policy: str) -> None:
    front = fronts(policy)
    chosen = {front.chosen(prompt("x")) for _ in range(60)}
    assert chosen == set(NAMES)


def test_a_body_that_is_cut_off_or_no_json_is_routed_all_the_same(
    fronts: Callable[[str], Front],
) -> None:
    front = fronts("prefix")
    large = prompt(text("large", 3 * 2**20))
    assert len({front.chosen(large) for _ in range(3)}) == 1
    for body in (b"", b"{", b'{"messages"', b'"messages"' + b"\x00\xff" * 9000, b"[" * 90000):
        assert front.chat(body).status == 200
