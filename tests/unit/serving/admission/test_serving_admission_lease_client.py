"""Replicas that share limits through a ledger: nothing twice, and alone when it is gone."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import pytest

from rayserve_par.serving.admission.lease_book import PoolSpec
from rayserve_par.serving.admission.lease_client import LeaseClient, Use
from rayserve_par.serving.admission.ledger import Answer, Notice, Report
from rayserve_par.serving.admission.local_ledger import LocalLedger
from rayserve_par.serving.admission.own_share import OwnShare

SLOTS = Use(PoolSpec("k/concurrency", 4))
REQUESTS = Use(PoolSpec("k/requests", 6, 0.1))
TOKENS = Use(PoolSpec("k/tokens", 600, 10.0), later=True)


class Wire:
    """A ledger some milliseconds away, which can be cut."""

    def __init__(self, ledger: LocalLedger) -> None:
        self.ledger = ledger
        self.cut = False
        self.messages = 0

    async def exchange(self, report: Report) -> Answer:
        self.messages += 1
        return await self._over(lambda: self.ledger.exchange(report))

    async def notices(self, holder: str, wait_seconds: float) -> tuple[Notice, ...]:
        return await self._over(lambda: self.ledger.notices(holder, wait_seconds))

    async def _over(self, call: Callable[[], Awaitable[Any]]) -> Any:
        if self.cut:
            raise ConnectionError("cut")
        await asyncio.sleep(0.001)
        answer = await call()
        if self.cut:
            raise ConnectionError("cut")
        return answer


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(coroutine, 30))


async def replicas(wire: Wire, count: int) -> list[LeaseClient]:
    made = [LeaseClient(wire, f"r{n}", look=partial(OwnShare, n, count)) for n in range(count)]
    for client in made:
        await client.start()
    return made


async def stop(clients: list[LeaseClient]) -> None:
    for client in clients:
        await client.stop()


def test_slots_hold_over_replicas_and_idle_ones_move_to_who_needs_them() -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 2)
        a, b = clients
        for _ in range(4):
            assert await a.obtain([SLOTS]) is None
        assert await a.obtain([SLOTS]) is not None
        assert await b.obtain([SLOTS]) is not None
        for _ in range(4):
            a.release(SLOTS.spec)  # idle at a, not returned
        await asyncio.sleep(0.12)  # a refusal is remembered for 50 ms, a recall for 100 ms
        begin = time.perf_counter()
        for _ in range(4):
            assert await b.obtain([SLOTS]) is None
        assert time.perf_counter() - begin < 0.25
        assert await a.obtain([SLOTS]) is not None
        await stop(clients)

    run(scenario())


def test_local_leases_need_no_message() -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 1)
        assert await clients[0].obtain([SLOTS]) is None
        clients[0].release(SLOTS.spec)
        before = wire.messages
        for _ in range(1000):
            assert clients[0].take([SLOTS])
            clients[0].release(SLOTS.spec)
        assert wire.messages == before
        await stop(clients)

    run(scenario())


def test_a_bucket_serves_its_limit_once_over_all_replicas() -> None:
    async def scenario() -> None:
        clients = await replicas(Wire(LocalLedger()), 3)
        served = 0
        for _ in range(4):
            answers = await asyncio.gather(*(each.obtain([REQUESTS]) for each in clients * 3))
            served += sum(answer is None for answer in answers)
            await asyncio.sleep(0.11)
        assert served == 6
        shortage = await clients[0].obtain([REQUESTS])
        assert shortage is not None
        assert 5 < shortage.retry_after_seconds < 41  # in turn with two others who wait
        await stop(clients)

    run(scenario())


def test_the_next_asker_shares_what_all_wait_for() -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 1)
        answers = await asyncio.gather(*(clients[0].obtain([SLOTS]) for _ in range(200)))
        assert sum(answer is None for answer in answers) == 4
        assert wire.messages < 10
        await stop(clients)

    run(scenario())


def test_tokens_go_into_debt_everywhere_and_come_back_with_time() -> None:
    async def scenario() -> None:
        clients = await replicas(Wire(LocalLedger()), 2)
        a, b = clients
        assert await a.obtain([TOKENS]) is None
        a.charge(TOKENS.spec, 605)
        await asyncio.sleep(0.05)
        shortage = await b.obtain([TOKENS])
        assert shortage is not None
        assert await a.obtain([TOKENS]) is not None
        await asyncio.sleep(0.9)
        assert await b.obtain([TOKENS]) is None
        await stop(clients)

    run(scenario())


def test_all_or_nothing() -> None:
    async def scenario() -> None:
        clients = await replicas(Wire(LocalLedger()), 1)
        for _ in range(4):
            assert await clients[0].obtain([SLOTS, REQUESTS]) is None
        shortage = await clients[0].obtain([REQUESTS, SLOTS])
        assert shortage is not None
        assert shortage.spec is SLOTS.spec
        clients[0].release(SLOTS.spec)
        for _ in range(2):  # of 6; the refused one took none
            assert await clients[0].obtain([REQUESTS]) is None
        assert await clients[0].obtain([REQUESTS]) is not None
        await stop(clients)

    run(scenario())


def test_a_refused_request_gives_back_what_it_took() -> None:
    async def scenario() -> None:
        clients = await replicas(Wire(LocalLedger()), 1)
        for _ in range(20):
            assert await clients[0].obtain([SLOTS, REQUESTS]) is None
            clients[0].refund([SLOTS, REQUESTS])
        await stop(clients)

    run(scenario())


def test_without_the_ledger_each_serves_its_share_and_with_it_again_the_whole(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 2)
        a, b = clients
        assert await a.obtain([SLOTS]) is None
        wire.cut = True
        await asyncio.sleep(1.2)
        assert a.alone
        assert "1/2 of each limit" in caplog.text
        assert await a.obtain([SLOTS]) is None
        assert await a.obtain([SLOTS]) is not None  # half of 4, and 2 in use
        assert await b.obtain([SLOTS]) is None
        wire.cut = False
        await asyncio.sleep(1.2)
        assert not a.alone
        assert await b.obtain([SLOTS]) is None
        await asyncio.sleep(0.15)
        assert await b.obtain([SLOTS]) is not None  # 2 and 2 of 4 in use
        await stop(clients)

    run(scenario())


def test_a_ledger_that_lost_its_memory_learns_what_is_in_use() -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 2)
        a, b = clients
        for _ in range(3):
            assert await a.obtain([SLOTS]) is None
        wire.ledger = LocalLedger(successor=True)
        await asyncio.sleep(1.2)
        assert a.alone  # the successor grants nothing until everybody has reported
        assert await a.obtain([SLOTS]) is not None
        await asyncio.sleep(3.2)
        assert not a.alone
        assert await b.obtain([SLOTS]) is None
        assert await b.obtain([SLOTS]) is not None
        await stop(clients)

    run(scenario())


def test_without_a_ledger_all_together_serve_the_limit_and_no_more() -> None:
    """Also where there are fewer units than replicas, or they do not divide."""

    async def scenario(count: int, spec: PoolSpec, served: list[int]) -> None:
        wire = Wire(LocalLedger())
        wire.cut = True
        clients = [
            LeaseClient(wire, f"r{n}", look=partial(OwnShare, n, count), clock=lambda: 7.0)
            for n in range(count)
        ]
        for client in clients:
            await client._look()
        for client in clients:
            taken = 0
            while await client.obtain([Use(spec)]) is None:
                taken += 1
            served.append(taken)

    for count, spec, wanted in (
        (3, SLOTS.spec, [2, 1, 1]),
        (6, SLOTS.spec, [1, 1, 1, 1, 0, 0]),
        (4, REQUESTS.spec, [2, 2, 1, 1]),
    ):
        served: list[int] = []
        run(scenario(count, spec, served))
        assert served == wanted


def no_tables() -> OwnShare:
    raise ConnectionError("no tables")


def test_shares_follow_the_number_of_replicas_with_the_ledger_and_without() -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        [a] = await replicas(wire, 1)
        b = LeaseClient(wire, "r1", look=partial(OwnShare, 1, 2))
        await b.start()
        await asyncio.sleep(1.2)  # the ledger tells the first one of the second
        wire.cut = True
        a._look_blocking = b._look_blocking = no_tables
        await asyncio.sleep(1.2)
        assert a.alone
        assert b.alone
        for client in (a, b):
            assert [await client.obtain([SLOTS]) is None for _ in range(3)] == [True, True, False]
        # Another one starts meanwhile; Ray's tables show it.
        for place, client in enumerate((a, b)):
            client._look_blocking = partial(OwnShare, place, 3)
        await asyncio.sleep(1.2)
        a.release(SLOTS.spec)
        b.release(SLOTS.spec)
        assert await a.obtain([SLOTS]) is None  # 2 of 4 for the first, 1 for the others
        assert await b.obtain([SLOTS]) is not None
        await stop([a, b])

    run(scenario())


def test_a_look_that_fails_leaves_the_share_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    async def scenario() -> None:
        wire = Wire(LocalLedger())
        clients = await replicas(wire, 2)
        wire.cut = True
        for client in clients:
            client._look_blocking = no_tables
        await asyncio.sleep(2.2)
        assert "2 are assumed: no tables" in caplog.text
        assert [await clients[0].obtain([SLOTS]) is None for _ in range(3)] == [True, True, False]
        await stop(clients)

    run(scenario())
