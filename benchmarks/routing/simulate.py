"""SIMULATION of a trace on N mock engines: the same scheduler in its own time, no HTTP, no proxy.

A routing policy is a function of the request's text and each instance's requests in flight. It
serves for policies that cannot stand in HAProxy, above all Ray Serve LLM's prefix router, and round
robin and power of two choices run in both worlds, so that the simulation can be held against what
was measured.

Events are (time, number, what to do), taken in order. An instance that is idle starts a step when a
request comes; a step's tokens come at its end. TTFT = the end of the step that made the first token
- the question's time. Left out: network, HTTP and proxy time, and the age of load information.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from random import Random

from benchmarks.routing.figures import Asked, Figures, figures
from benchmarks.routing.trace import Conversation
from rayserve_par.serving.mock_engine.scheduler import Request, Scheduler
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.mock_engine.tokens import answer_words, block_names, chat_tokens

# (text of the messages, requests in flight per instance, now) -> instance
Policy = Callable[[str, Sequence[int], float], int]
SAMPLE_SECONDS = 0.5


def round_robin() -> Policy:
    """One after the other."""
    turn = count()
    return lambda _text, in_flight, _now: next(turn) % len(in_flight)


def power_of_two(seed: int) -> Policy:
    """The emptier of two at random."""
    draw = Random(seed)

    def choose(_text: str, in_flight: Sequence[int], _now: float) -> int:
        pair = draw.sample(range(len(in_flight)), 2)
        return min(pair, key=lambda instance: in_flight[instance])

    return choose


@dataclass(slots=True)
class _Session:
    conversation: Conversation
    asked: float = 0.0
    instance: int = 0
    answer: str = ""
    answers: list[str] = field(default_factory=list)


class Simulation:
    """One run; `result` holds until the next."""

    def __init__(self, instances: int, times: EngineTimes, policy: Policy) -> None:
        self._times = times
        self._policy = policy
        self._engines = [Scheduler(times) for _ in range(instances)]
        self._stepping = [False] * instances
        self._in_flight = [0] * instances
        self._sessions: dict[str, _Session] = {}
        self._events: list[tuple[float, int, Callable[[float], None]]] = []
        self._numbers = count()
        self._asked: list[Asked] = []
        self._samples: list[list[int]] = []

    def run(self, trace: Sequence[Conversation], warm_up_seconds: float) -> Figures:
        """Play the trace to its end."""
        for conversation in trace:
            session = _Session(conversation)
            self._at(conversation.start_seconds, partial(self._ask, session))
        next_sample = 0.0
        while self._events:
            now, _, act = heapq.heappop(self._events)
            while next_sample <= now:
                self._samples.append([e.running + e.waiting for e in self._engines])
                next_sample += SAMPLE_SECONDS
            act(now)
        prefix = [(e.prefix_hit_tokens, e.prefix_query_tokens) for e in self._engines]
        return figures(self._asked, prefix, self._samples, warm_up_seconds)

    def _at(self, when: float, act: Callable[[float], None]) -> None:
        heapq.heappush(self._events, (when, next(self._numbers), act))

    def _ask(self, session: _Session, now: float) -> None:
        turn = session.conversation.turns[len(session.answers)]
        messages = session.conversation.messages(session.answers)
        prompt = chat_tokens((message["role"], message["content"]) for message in messages)
        answer = answer_words(prompt, min(turn.max_tokens, self._times.answer_tokens))
        session.answer, session.asked = " ".join(answer), now
        text = "".join(message["content"] for message in messages)
        session.instance = self._policy(text, self._in_flight, now)
        self._in_flight[session.instance] += 1
        name = f"{session.conversation.number}.{len(session.answers)}"
        self._sessions[name] = session
        names = block_names([*prompt, *answer], self._times.block_tokens)
        self._engines[session.instance].add(Request(name, len(prompt), len(answer), names))
        if not self._stepping[session.instance]:
            self._start_step(session.instance, now)

    def _start_step(self, instance: int, now: float) -> None:
        step = self._engines[instance].start_step()
        self._stepping[instance] = step is not None
        if step is not None:
            self._at(now + step.seconds, lambda end: self._finish_step(instance, end))

    def _finish_step(self, instance: int, now: float) -> None:
        for token in self._engines[instance].finish_step():
            session = self._sessions[token.request_id]
            if token.count == 1:
                self._asked.append(Asked(session.asked, now - session.asked))
            if token.finished:
                self._in_flight[instance] -= 1
                self._answered(self._sessions.pop(token.request_id), now)
        self._start_step(instance, now)

    def _answered(self, session: _Session, now: float) -> None:
        think = session.conversation.turns[len(session.answers)].think_seconds
        session.answers.append(session.answer)
        if len(session.answers) < len(session.conversation.turns):
            self._at(now + think, lambda then: self._ask(session, then))
