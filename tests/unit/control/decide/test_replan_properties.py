"""What must hold of every re-planning: no flapping, nothing that does not fit, the same twice."""

from __future__ import annotations

from dataclasses import dataclass, replace

from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.control.decide.change_way import Way, first_step
from rayserve_par.control.decide.prospect import CountBy, Counting, Prospect
from rayserve_par.control.decide.replan import replan
from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.decide.replan_state import Action, ReplanMemory, ReplanState
from rayserve_par.planning.layout import Layout
from tests.unit.control.decide.replan_cases import prospect, state

LAYOUTS = tuple(Layout(tp=tp, pp=pp) for tp in (1, 2, 4) for pp in (1, 2))
SETTINGS = ReplanSettings(least_interval_seconds=0.0)


@st.composite
def prospects(draw: st.DrawFn) -> Prospect:
    layout = draw(st.sampled_from(LAYOUTS))
    return prospect(
        layout,
        room=draw(st.integers(0, 6)),
        beside=draw(st.integers(0, 6)),
        in_place=draw(st.booleans()),
        requests_per_second=draw(st.floats(0.1, 50)),
        tpot_seconds=draw(st.floats(0.005, 0.2)),
        excess=draw(st.floats(0.1, 3)),
    )


countings = st.one_of(
    st.builds(Counting, by=st.just(CountBy.FIXED), number=st.integers(1, 5)),
    st.just(Counting(CountBy.FIT)),
    st.just(Counting(CountBy.RATE)),
    st.builds(
        Counting, by=st.just(CountBy.POLICY), least=st.integers(1, 2), most=st.integers(2, 6)
    ),
)


@st.composite
def states(draw: st.DrawFn) -> ReplanState:
    found = draw(st.lists(prospects(), max_size=5, unique_by=lambda one: one.layout))
    present = draw(st.one_of(prospects(), st.sampled_from(found) if found else prospects()))
    same = [one for one in found if one.layout == present.layout]
    present = same[0] if same else present
    target = draw(st.integers(1, 6))
    return state(
        present,
        *found,
        counting=draw(countings),
        rate=draw(st.none() | st.floats(0.1, 200)),
        by_latency=draw(st.booleans()),
        target=target,
        ready=min(target, present.room),
    )


def carried_out(seen: ReplanState, memory: ReplanMemory) -> tuple[list[Action], ReplanState]:
    """Half an hour under the same cluster and load; what is decided happens within a look."""
    found = []
    for _ in range(60):
        seen = replace(seen, now_seconds=seen.now_seconds + 30)
        decision, memory = replan(seen, memory, SETTINGS)
        if not decision.acts:
            continue
        found.append(decision.action)
        assert decision.choice is not None
        assert decision.step is not None
        assert decision.predicted is not None
        taken = decision.predicted
        target = decision.step.instances
        if seen.counting.by is CountBy.POLICY:
            target = max(1, min(seen.target, seen.counting.most))
        seen = replace(seen, present=taken, target=target, ready=min(target, taken.room))
    return found, seen


@given(states())
def test_constant_cluster_and_load_see_at_most_one_change(seen: ReplanState) -> None:
    actions, _ = carried_out(seen, ReplanMemory())
    layouts = [one for one in actions if one is not Action.COUNT]
    assert len(layouts) <= 1
    # Its last step, and with a number that the cluster does not set nothing more.
    assert actions.count(Action.COUNT) <= len(layouts) + 1


@given(states())
def test_nothing_that_does_not_fit_is_decided(seen: ReplanState) -> None:
    memory = ReplanMemory(cluster=seen.cluster, lost_seconds=0.0)
    decision, _ = replan(seen, memory, SETTINGS)
    if decision.acts:
        assert decision.predicted is not None
        assert decision.choice is not None
        assert decision.step is not None
        assert 1 <= decision.choice.instances <= decision.predicted.room
        assert decision.choice.is_of(decision.predicted)
        assert decision.step.instances >= 1


@given(states(), st.floats(0, 1e4))
def test_the_same_look_twice_decides_the_same(seen: ReplanState, since: float) -> None:
    memory = ReplanMemory(cluster=seen.cluster, cluster_since_seconds=1000 - since)
    assert replan(seen, memory, SETTINGS) == replan(seen, memory, SETTINGS)


@given(states())
def test_what_the_user_set_is_never_changed(seen: ReplanState) -> None:
    decision, _ = replan(replace(seen, explicit=True), ReplanMemory(), SETTINGS)
    assert not decision.acts


@given(prospects(), st.integers(1, 8), st.integers(1, 8))
def test_a_surge_never_asks_for_more_than_fits_beside(
    candidate: Prospect, running: int, wanted: int
) -> None:
    """By Serve's own arithmetic: it starts surge + target - active, at most what is missing."""
    if not candidate.beside:
        return
    step = first_step(Way.SURGE, running, candidate, wanted, sets_number=True)
    surge = (step.max_surge_percent * step.instances + 99) // 100
    active = min(running, step.instances)
    assert surge >= 1
    assert min(step.instances, surge + step.instances - active) <= candidate.beside
    assert step.max_surge_percent <= 100


@given(prospects(), st.integers(1, 8), st.integers(1, 8))
def test_without_a_surge_serve_never_waits_for_ever(
    candidate: Prospect, running: int, wanted: int
) -> None:
    """Serve stops max(1, floor(share x target)) - pending old ones; it must be 1 at least."""
    for way in (Way.ONE_BY_ONE, Way.ALL_AT_ONCE):
        step = first_step(way, running, candidate, wanted, sets_number=way is Way.ALL_AT_ONCE)
        assert step.max_surge_percent == 0
        old = min(running, step.instances)
        pending = step.instances - old
        share = max(1, int(step.rolling_update_percentage * step.instances))
        assert share - pending >= (1 if way is Way.ONE_BY_ONE else old)


@given(prospects(), st.integers(2, 12), st.integers(1, 12), st.lists(st.booleans(), max_size=60))
def test_one_by_one_always_has_all_but_one_running(
    candidate: Prospect, running: int, wanted: int, dies: list[bool]
) -> None:
    """Serve's controller by its own arithmetic, wherever it dies; no GPU is free."""
    step = first_step(Way.ONE_BY_ONE, running, candidate, wanted, sets_number=True)
    serve = Surging(step.instances, step.max_surge_percent, old=running)
    fates = iter(dies)
    for _ in range(6 * running):
        serve.tick()
        assert serve.old + serve.new >= running - 1
        if next(fates, False):
            serve.restarted()
        serve.time_passes()
    assert (serve.old, serve.draining, serve.new, serve.waiting) == (0, 0, running - 1, 0)


@dataclass(slots=True)
class Surging:
    """Counts of replicas in a surge of Serve (ray/serve/_private/deployment_state.py, 2.60).

    A new one waits until an old one has drained. In a controller that starts all are recovered; of
    these, what drains refuses (serving/draining.py), and what waits for its place is started anew.
    """

    target: int
    percent: int
    old: int
    draining: int = 0
    new: int = 0
    waiting: int = 0
    places: int = 0

    def tick(self) -> None:
        """`scale_deployment_replicas`: both numbers are of one moment."""
        surge = (self.percent * self.target + 99) // 100
        active = self.old + self.new + self.waiting
        missing = self.target - self.new - self.waiting
        allowed = surge + self.target - active if self.old else self.target - active
        start = max(0, min(missing, allowed))
        surplus = max(0, self.old + self.new - self.target)
        stop = min(self.old, surplus, 1)
        self.old, self.draining = self.old - stop, self.draining + stop
        self.waiting += start

    def restarted(self) -> None:
        """All recover, in a surge: nothing is started or stopped until they have answered."""
        self.waiting = 0

    def time_passes(self) -> None:
        """What drains ends, then what waits starts."""
        if self.draining:
            self.draining, self.places = self.draining - 1, self.places + 1
        elif self.waiting and self.places:
            self.waiting, self.places, self.new = self.waiting - 1, self.places - 1, self.new + 1
