"""Who may start how many: one book for the policies of all applications in Serve's controller.

At each look a policy asks; what it may start is `decide/share.py` over all that the book knows:

    have       what Serve was told last, of every application that looked lately
    placed     its placement groups that have their GPUs, as the latest view of the cluster shows
    leaving    of these, instances that ran and that Serve no longer calls running
    unplaced   have - (placed - leaving), and no fewer than its groups that are pending, as in a
               roll-out: a claim, which ends when its instance has its GPUs, or when the number
               goes down

So claims are not kept but counted: after a restart of Serve's controller the same ones are there.
Of an application that has not looked yet, or has another policy, pending groups are its claims.

A wish waits one look of its own before it is given, so that whoever looks first does not take all;
not where the GPUs hold everybody's most. Pure: the clock is passed in, and others read the cluster.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from rayserve_par.control.decide.give_up import Holding, Place, give_up
from rayserve_par.control.decide.share import Wish, shares
from rayserve_par.control.live.ask import Answer, Ask
from rayserve_par.control.live.gpu_view import GpuView
from rayserve_par.placement.fit import NodeState
from rayserve_par.placement.packing import Shape, fit_together, fits_empty

_VIEW_SECONDS = 30.0
_FIRST_VIEW_SECONDS = 10.0
_GONE_LOOKS = 3
_LEAST_GONE_SECONDS = 15.0


@dataclass(slots=True)
class _Entry:
    ask: Ask
    have: int
    looked: float
    wanted_since: float | None = None
    waits_since: float | None = None


@dataclass(slots=True)
class Book:
    """`clock` gives seconds that only go forward, the same for all applications."""

    clock: Callable[[], float]
    _latest: tuple[GpuView | None, float] = (None, float("-inf"))
    _view: GpuView | None = None
    _begun: float | None = None
    _entries: dict[str, _Entry] = field(default_factory=dict)

    @property
    def view(self) -> GpuView | None:
        """The latest view of the cluster."""
        return self._latest[0]

    @property
    def view_age_seconds(self) -> float:
        """How old it is."""
        return self.clock() - self._latest[1]

    def see(self, view: GpuView) -> None:
        """The cluster as it was read now; from any thread."""
        self._latest = (view, self.clock())

    def ask(self, ask: Ask) -> Answer | None:
        """What this application may do; None where nothing is known of the cluster's GPUs."""
        now, self._view = self.clock(), self.view
        self._begun = now if self._begun is None else self._begun
        entry = self._noted(ask, now)
        if self._view is None and now - self._begun < _FIRST_VIEW_SECONDS:
            return Answer(0, "the cluster's GPUs are not read yet", waits=True)
        if self._view is None or self.view_age_seconds > _VIEW_SECONDS:
            return None
        nodes = self._view.of_kind(ask.gpu)
        if ask.wanted <= ask.target:
            return self._giving(ask, nodes, now) if ask.spare > 0 and ask.claims else Answer(0)
        others = [
            one for one in self._fresh(ask.gpu, now) if one.ask.app != ask.app and one.ask.claims
        ]
        wishes = [self._wish(entry, now, claims=True), *self._of_others(ask.app, nodes, now)]
        found = shares(nodes, wishes)[ask.app]
        first_look = entry.wanted_since == now
        if found.given and first_look and self._contended(nodes, [entry, *others], wishes):
            return Answer(0, "waits one look for what other models want", waits=True)
        return Answer(found.given, found.note)

    def told(self, app: str, number: int) -> None:
        """What Serve is told after all."""
        entry = self._entries.get(app)
        if entry is None:
            return
        more, entry.have = number > entry.have, number
        if entry.ask.wanted <= number and not self._unplaced(entry):
            entry.waits_since = None
        elif entry.waits_since is None or more:
            entry.waits_since = self.clock()

    def _noted(self, ask: Ask, now: float) -> _Entry:
        old = self._entries.get(ask.app)
        entry = _Entry(ask, ask.target, now) if old is None else old
        entry.ask, entry.have, entry.looked = ask, ask.target, now
        if ask.wanted <= ask.target:
            entry.wanted_since = None
        elif entry.wanted_since is None:
            entry.wanted_since = now
        self._entries[ask.app] = entry
        return entry

    def _fresh(self, gpu: str, now: float) -> list[_Entry]:
        """Who asks for GPUs of this kind and has looked lately."""
        return [
            one
            for one in self._entries.values()
            if one.ask.gpu == gpu
            and now - one.looked <= max(_LEAST_GONE_SECONDS, _GONE_LOOKS * one.ask.look_seconds)
        ]

    def _of_others(self, app: str, nodes: tuple[NodeState, ...], now: float) -> Iterator[Wish]:
        assert self._view is not None
        gpu = self._entries[app].ask.gpu
        fresh = {one.ask.app for one in self._fresh(gpu, now)}
        for entry in self._fresh(gpu, now):
            if entry.ask.app != app:
                yield self._wish(entry, now, claims=entry.ask.claims)
        known = fresh | {name for name, one in self._entries.items() if one.ask.gpu != gpu}
        pending: Counter[tuple[str, Shape]] = Counter(
            (one.app, one.shape)
            for one in self._view.groups
            if not one.placed and one.app not in known and fits_empty(nodes, one.shape)
        )
        names: Counter[str] = Counter()
        for (name, shape), count in pending.items():
            names[name] += 1
            shown = name if names[name] == 1 else f"{name} ({names[name]})"
            yield Wish(shown, shape, have=count, wanted=count, unplaced=count)

    def _wish(self, entry: _Entry, now: float, *, claims: bool) -> Wish:
        ask = entry.ask
        return Wish(
            app=ask.app,
            shape=ask.shape,
            have=entry.have,
            wanted=max(entry.have, ask.wanted) if claims else entry.have,
            unplaced=self._unplaced(entry),
            priority=ask.priority,
            waited_seconds=0.0 if entry.waits_since is None else now - entry.waits_since,
        )

    def _places(self, entry: _Entry) -> tuple[list[Place], list[Place]]:
        """What its instances hold: of those that stay, and of those that leave."""
        groups = () if self._view is None else self._view.groups
        ask = entry.ask
        stay: list[Place] = []
        leave: list[Place] = []
        for one in groups:
            if one.app == ask.app and one.placed:
                ends = one.replica in ask.ran and one.replica not in ask.running
                (leave if ends else stay).append(one.held.gpus)
        return stay[: entry.have], [*leave, *stay[entry.have :]]

    def _unplaced(self, entry: _Entry) -> int:
        groups = () if self._view is None else self._view.groups
        pending = sum(one.app == entry.ask.app and not one.placed for one in groups)
        return min(entry.have, max(pending, entry.have - len(self._places(entry)[0])))

    def _contended(
        self, nodes: tuple[NodeState, ...], entries: list[_Entry], wishes: list[Wish]
    ) -> bool:
        """Whether the free GPUs do not hold the most that everybody may come to want."""
        if len(wishes) < 2:
            return False
        shapes = [one.shape for one in wishes for _ in range(one.unplaced)]
        for one in entries:
            shapes += [one.ask.shape] * max(0, one.ask.most - one.have)
        free = sum(one.gpus_free for one in nodes)
        return sum(one.gpus for one in shapes) > free or not fit_together(nodes, shapes)

    def _giving(self, ask: Ask, nodes: tuple[NodeState, ...], now: float) -> Answer:
        """Whether this application, which has some to spare, gives one up."""
        entries = self._fresh(ask.gpu, now)
        missing = [
            one.ask.app
            for one in entries
            if one.ask.claims and one.ask.misses and one.ask.wanted > one.have
        ]
        if not missing:
            return Answer(0)
        wishes = [
            self._wish(self._entries[ask.app], now, claims=True),
            *self._of_others(ask.app, nodes, now),
        ]
        places = {one.ask.app: self._places(one) for one in entries}
        by_app = {one.app: one for one in wishes}
        holdings = [
            Holding(by_app[one.ask.app], one.ask.spare, tuple(places[one.ask.app][0]))
            for one in entries
            if one.ask.claims and one.ask.wanted <= one.have
        ]
        leaving = [place for _, ends in places.values() for place in ends]
        found = give_up(nodes, wishes, missing, holdings, leaving)
        if found is None or found.app != ask.app:
            return Answer(0)
        return Answer(0, found.note, gives_up=True)
