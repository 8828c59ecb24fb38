"""What limits let through: the keys' and the instance's, also while the ledger is slow."""

import asyncio
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from middleware_harness import BODY, CHAT, NODE, Application, bearer, error_of, gate_of, key, served

from rayserve_par.serving.admission.args import AdmissionArgs, ConcurrencyArgs, LimitArgs
from rayserve_par.serving.admission.concurrency import EngineLoad
from rayserve_par.serving.admission.gate import Gate
from rayserve_par.serving.admission.key_source import open_key_source
from rayserve_par.serving.admission.keys import hash_of
from rayserve_par.serving.admission.ledger import Answer, Report
from rayserve_par.serving.admission.local_ledger import LocalLedger
from rayserve_par.serving.admission.middleware import AdmissionMiddleware


def test_requests_per_minute_and_concurrency() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(
            key(limits=LimitArgs(requests_per_minute=3)),
            key("bob", limits=LimitArgs(concurrency=2)),
        )
        async with served(app, gate) as session:
            answers = [await session.post(CHAT, json=BODY, headers=bearer()) for _ in range(5)]
            assert [answer.status_code for answer in answers] == [200, 200, 200, 429, 429]
            assert error_of(answers[3])["type"] == "requests"
            assert 15 <= int(answers[3].headers["retry-after"]) <= 20
            assert "x-rayserve-par-shed" not in answers[3].headers
            reads = [await session.get("/v1/models", headers=bearer()) for _ in range(5)]
            assert {answer.status_code for answer in reads} == {200}

            app.hold = True
            both = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer("bob")))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            third = await session.post(CHAT, json=BODY, headers=bearer("bob"))
            assert third.status_code == 429
            assert error_of(third)["type"] == "concurrency"
            app.release.set()
            assert {answer.status_code for answer in await asyncio.gather(*both)} == {200}
            await asyncio.sleep(0.06)
            after = await session.post(CHAT, json=BODY, headers=bearer("bob"))
            assert after.status_code == 200

    asyncio.run(scenario())


def test_tokens_are_charged_when_the_engine_reports_them() -> None:
    async def scenario() -> None:
        app = Application()
        gate = gate_of(key(limits=LimitArgs(tokens_per_minute=100)))
        async with served(app, gate) as session:
            answer = await session.post(CHAT, json=BODY, headers=bearer())
            assert answer.status_code == 200
            gate.usage.on_finished(f"chatcmpl-{app.seen[0]['usage']}", 60, 50)
            await asyncio.sleep(0.05)
            answer = await session.post(CHAT, json=BODY, headers=bearer())
            assert answer.status_code == 429
            assert error_of(answer)["type"] == "tokens"

    asyncio.run(scenario())


def test_two_requests_never_share_an_id() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(key(limits=LimitArgs(tokens_per_minute=100)))
        headers = {**bearer(), "x-request-id": "same"}
        async with served(app, gate) as session:
            both = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=headers))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            app.release.set()
            await asyncio.gather(*both)
        first, second = app.seen
        assert first["usage"] == first["headers"]["x-request-id"] == "same"
        assert second["usage"] == second["headers"]["x-request-id"] != "same"

    asyncio.run(scenario())


def test_limits_of_all_without_a_key_and_of_keys_without_their_own() -> None:
    async def scenario() -> None:
        limited = LimitArgs(requests_per_minute=1)
        async with served(Application(), gate_of(anonymous_limits=limited)) as session:
            statuses = [(await session.post(CHAT, json=BODY)).status_code for _ in range(2)]
            assert statuses == [200, 429]
        gate = gate_of(key(), key("bob"), default_limits=limited)
        async with served(Application(), gate) as session:
            for name in ("alice", "bob"):
                answers = [
                    await session.post(CHAT, json=BODY, headers=bearer(name)) for _ in range(2)
                ]
                assert [answer.status_code for answer in answers] == [200, 429]

    asyncio.run(scenario())


def test_an_instance_at_its_limit_sheds_and_gives_back_the_keys_units() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of(
            key(limits=LimitArgs(requests_per_minute=3, concurrency=3)),
            key("boss", priority=-1),
            concurrency=ConcurrencyArgs(mode="fixed", limit=2, reserve=0),
        )
        async with served(app, gate) as session:
            held = [
                asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer()))
                for _ in range(2)
            ]
            await asyncio.sleep(0.05)
            for _ in range(5):
                answer = await session.post(CHAT, json=BODY, headers=bearer())
                assert answer.status_code == 503
                assert error_of(answer)["code"] == "overloaded"
                assert answer.headers["x-rayserve-par-shed"] == "1"
                assert int(answer.headers["retry-after"]) >= 1
            held.append(asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer("boss"))))
            await asyncio.sleep(0.05)
            assert gate.status()["in_flight"] == 3
            models = await session.get("/v1/models", headers=bearer())
            assert models.status_code == 200
            app.release.set()
            assert {answer.status_code for answer in await asyncio.gather(*held)} == {200}
            last = await session.post(CHAT, json=BODY, headers=bearer())
            assert last.status_code == 200  # the third of three: refusals cost nothing
        assert gate.status()["in_flight"] == 0

    asyncio.run(scenario())


@pytest.mark.parametrize("streamed", [False, True])
def test_a_client_that_has_its_last_part_may_come_back_at_once(streamed: bool) -> None:
    async def scenario() -> None:
        async def app(_scope: Any, _receive: Any, send: Any) -> None:
            kind = b"text/event-stream" if streamed else b"application/json"
            head = [(b"content-type", kind)]
            await send({"type": "http.response.start", "status": 200, "headers": head})
            if streamed:
                part = b"data: 1\n\n"
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

        gate = gate_of(
            key(limits=LimitArgs(concurrency=1)),
            concurrency=ConcurrencyArgs(mode="fixed", limit=1, reserve=0),
        )
        middleware = AdmissionMiddleware(app, gate)
        statuses: list[int] = []

        async def ask(times: int) -> None:
            """Ask again while the last part is being sent."""

            body = iter([json.dumps(BODY).encode()])

            async def receive() -> dict[str, Any]:
                for whole in body:
                    return {"type": "http.request", "body": whole}
                return await asyncio.Future()

            async def send(message: Any) -> None:
                if message["type"] == "http.response.start":
                    statuses.append(message["status"])
                elif not message.get("more_body") and times > 1:
                    await ask(times - 1)

            secret = (b"authorization", bearer()["authorization"].encode())
            scope = {"type": "http", "method": "POST", "path": CHAT, "headers": [secret]}
            await middleware(scope, receive, send)

        await gate.start()
        await ask(3)
        await gate.stop()
        assert statuses == [200, 200, 200]
        assert gate.status()["in_flight"] == 0
        assert gate.outcomes == {"ok": 3}

    asyncio.run(scenario())


def test_a_draining_instance_sends_new_requests_away_and_finishes_its_own() -> None:
    async def scenario() -> None:
        app = Application()
        app.hold = True
        gate = gate_of()
        async with served(app, gate) as session:
            running = asyncio.create_task(session.post(CHAT, json=BODY))
            await asyncio.sleep(0.05)
            gate.draining = True
            answer = await session.post(CHAT, json=BODY)
            assert answer.status_code == 503
            assert answer.headers["connection"] == "close"
            assert answer.headers["x-rayserve-par-shed"] == "1"
            assert answer.headers["retry-after"] == "1"
            app.release.set()
            assert (await running).status_code == 200

    asyncio.run(scenario())


class SlowLedger(LocalLedger):
    """Answers once `open` is set."""

    def __init__(self) -> None:
        super().__init__()
        self.open = asyncio.Event()

    async def exchange(self, report: Report) -> Answer:
        await self.open.wait()
        return await super().exchange(report)


def test_limits_that_come_while_the_ledger_is_slow_hold_and_stay_right(tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "keys.yaml"
        entry = {"name": "alice", "sha256": hash_of("secret-alice")}
        file.write_text(json.dumps({"keys": [entry]}))
        app, ledger = Application(), SlowLedger()
        gate = Gate(AdmissionArgs(), names=("m",), keys=open_key_source(str(file)), ledger=ledger)
        async with served(app, gate) as session:
            limited = {**entry, "limits": {"concurrency": 1}}
            file.write_text(json.dumps({"keys": [limited]}))
            await asyncio.sleep(1.3)  # keys are read again, the ledger has not answered
            app.hold = True
            for _ in range(2):
                held = asyncio.create_task(session.post(CHAT, json=BODY, headers=bearer()))
                await asyncio.sleep(0.05)
                refused = await session.post(CHAT, json=BODY, headers=bearer())
                assert refused.status_code == 429
                ledger.open.set()
                await asyncio.sleep(0.1)
                app.release.set()
                assert (await held).status_code == 200
                app.release.clear()
                await asyncio.sleep(0.1)

    asyncio.run(scenario())


def test_a_slow_duty_does_not_hold_up_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        monkeypatch.setattr("rayserve_par.serving.admission.gate._ADDRESSES_SECONDS", 0.1)
        go_on = threading.Event()
        asked = observed = 0

        def addresses() -> list[str]:
            nonlocal asked
            asked += 1
            if asked > 1:
                go_on.wait(10)
            return [NODE]

        def load() -> EngineLoad:
            nonlocal observed
            observed += 1
            return EngineLoad()

        gate = Gate(AdmissionArgs(), names=("m",), node_addresses=addresses, engine_load=load)
        await gate.start()
        assert gate.addresses == {NODE}
        await asyncio.sleep(1.4)
        go_on.set()
        assert asked == 2
        assert observed >= 2
        await gate.stop()

    asyncio.run(scenario())
