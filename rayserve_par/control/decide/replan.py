"""Which layout an application should have now: keep, change, fall back, back out, or cannot.

In this order, the first that holds:

1. The user set the layout: keep; where no instance fits, say what is missing.
2. No instance of the present layout fits the cluster, and none serves: fall back to the planner's
   first layout that fits, once the loss has lasted `lost_settle_seconds`; where none fits, say what
   is missing.
3. A new layout failed to start, or is worse in fact (trial.py): back to the former, or to the next
   that fits where that one does not, and bar it. What serves is not stopped for it, as in 5.
4. A roll-out or a trial goes on: wait. A roll-out is over: its last step (change_way.py).
5. The cluster is the same for `settle_seconds`, and the last change `least_interval_seconds` ago:
   the planner's first layout that is not barred is taken if it is better than the present one by
   `least_gain` (prospect.py), that gain pays for the change within `horizon_seconds`
   (gain x GPUs held x horizon > cost in GPU-seconds, change_way.py), and, unless `allow_outage`,
   some instance serves all the while.
6. More instances of the same layout are wanted than Serve was told, or all that fit are wanted
   and another number fits: change the number. Once for each cluster; where that number was less
   than is asked for, for want of room, again once room for more has lasted `settle_seconds`.

After a change the planner's choice for the same cluster and load is the present layout, so that
nothing more is decided until something else changes.
"""

from __future__ import annotations

from dataclasses import replace

from rayserve_par.control.decide.change_way import (
    Way,
    cost_gpu_seconds,
    first_step,
    usual_step,
    way_of,
)
from rayserve_par.control.decide.prospect import CountBy, Prospect, gain
from rayserve_par.control.decide.replan_settings import ReplanSettings
from rayserve_par.control.decide.replan_state import (
    Action,
    Barred,
    ReplanDecision,
    ReplanMemory,
    ReplanState,
    Trial,
    Why,
)
from rayserve_par.control.decide.trial import Expectation, Window, worse


def replan(
    state: ReplanState, memory: ReplanMemory, settings: ReplanSettings
) -> tuple[ReplanDecision, ReplanMemory]:
    """The decision, and what to remember if it is carried out."""
    memory = memory.seen(state)
    present = state.present
    if state.explicit:
        return _explicit(state), memory
    if present is None or present.room == 0:
        return _fall_back(state, memory, settings)
    if memory.trial is not None and state.failed:
        return _back_out(state, memory.trial, memory, settings, Why.FAILED, "it did not start")
    if state.rolling:
        return _keep(Why.ROLLING, f"{state.ready} of {state.target} serve"), memory
    if memory.rolling_out:
        return _last_step(state, present, memory, settings)
    return _at_rest(state, present, memory, settings)


def _at_rest(
    state: ReplanState, present: Prospect, memory: ReplanMemory, settings: ReplanSettings
) -> tuple[ReplanDecision, ReplanMemory]:
    if memory.trial is not None:
        judged = _trial(state, memory.trial, memory, settings)
        if judged is not None:
            return judged
        memory = replace(memory, trial=None)
    changed = _better(state, present, memory, settings)
    if changed.acts:
        return changed, _after_change(state, memory, changed)
    if state.now_seconds - memory.cluster_since_seconds < settings.settle_seconds:
        return changed, memory
    memory = _with_room_seen(state, present, memory)
    since = memory.room_seconds
    lasted = since is not None and state.now_seconds - since >= settings.settle_seconds
    if not lasted and memory.counted_on in {"", state.cluster}:
        return changed, replace(memory, counted_on=state.cluster)
    counted = _count(state, present)
    if counted is not None:
        memory = replace(memory, short=_short(state, present), room_seconds=None)
    return counted or changed, replace(memory, counted_on=state.cluster)


def _with_room_seen(state: ReplanState, present: Prospect, memory: ReplanMemory) -> ReplanMemory:
    """Remembers since when an application that was left short finds room for more."""
    more = memory.short and present.count(state.counting, state.rate) > state.target
    since = state.now_seconds if memory.room_seconds is None else memory.room_seconds
    return replace(memory, room_seconds=since if more else None)


def _short(state: ReplanState, present: Prospect) -> bool:
    return present.room < present.wanted(state.counting, state.rate)


def _keep(why: Why, note: str, candidate: Prospect | None = None) -> ReplanDecision:
    return ReplanDecision(Action.KEEP, why, note, predicted=candidate)


def _explicit(state: ReplanState) -> ReplanDecision:
    if state.present is None or state.present.room == 0:
        return ReplanDecision(Action.CANNOT, Why.MISSING, state.missing)
    return _keep(Why.EXPLICIT, "the configuration sets the layout")


def _fall_back(
    state: ReplanState, memory: ReplanMemory, settings: ReplanSettings
) -> tuple[ReplanDecision, ReplanMemory]:
    if state.living:
        return _keep(Why.SETTLING, f"{state.living} serve, though: {state.missing}"), memory
    fitting = [one for one in state.candidates if one.room]
    if not fitting:
        return ReplanDecision(Action.CANNOT, Why.MISSING, state.missing), memory
    assert memory.lost_seconds is not None, "set by `seen` where nothing serves or fits"
    lasted = state.now_seconds - memory.lost_seconds
    if lasted < settings.lost_settle_seconds:
        note = f"no place for the present layout since {lasted:.0f} s: {state.missing}"
        return _keep(Why.SETTLING, note), memory
    taken = next((one for one in fitting if not memory.is_barred(one)), fitting[0])
    decision = _change(state, taken, Action.FALL_BACK, Why.LOST, state.missing)
    return decision, _after_change(state, memory, decision)


def _trial(
    state: ReplanState, trial: Trial, memory: ReplanMemory, settings: ReplanSettings
) -> tuple[ReplanDecision, ReplanMemory] | None:
    """None once it is over and the layout stays."""
    now = state.now_seconds
    if trial.window is None:
        begun = replace(trial, window=Window(now))
        return _keep(Why.TRIAL, "rolled out, now measured"), replace(memory, trial=begun)
    if now - trial.window.since_seconds > settings.trial_limit_seconds or trial.before is None:
        return None
    if trial.window.seconds < settings.trial_seconds or not trial.window.comparable(trial.before):
        return _keep(Why.TRIAL, f"measured for {trial.window.seconds:.0f} s"), memory
    found = worse(trial.before, trial.window, trial.expected, settings.worse_factor)
    return _back_out(state, trial, memory, settings, Why.WORSE, found) if found else None


def _last_step(
    state: ReplanState, present: Prospect, memory: ReplanMemory, settings: ReplanSettings
) -> tuple[ReplanDecision, ReplanMemory]:
    number = present.wanted(state.counting, state.rate)
    if number > present.room:
        # Ray gives the GPUs of an instance back some time after it has ended.
        now = state.now_seconds
        since = now if memory.short_seconds is None else memory.short_seconds
        if now - since < settings.settle_seconds:
            note = f"rolled out; {present.room} of {number} find room for {now - since:.0f} s"
            return _keep(Why.ROLLING, note), replace(memory, short_seconds=since)
    wanted = present.choice(max(1, present.count(state.counting, state.rate)))
    decision = ReplanDecision(
        Action.COUNT,
        Why.LAST_STEP,
        f"rolled out; now {wanted.label}",
        choice=wanted,
        step=usual_step(wanted.instances),
        predicted=present,
    )
    short = _short(state, present)
    return decision, replace(memory, rolling_out=False, short_seconds=None, short=short)


def _back_out(
    state: ReplanState,
    trial: Trial,
    memory: ReplanMemory,
    settings: ReplanSettings,
    why: Why,
    note: str,
) -> tuple[ReplanDecision, ReplanMemory]:
    present = state.present
    assert present is not None, "a layout that fits nowhere is fallen back from instead"
    until = state.now_seconds + settings.barred_seconds
    barred = (*memory.barred, Barred(present.choice(state.target), until))
    memory = replace(memory, barred=barred, trial=None)
    fitting = [one for one in state.candidates if one.room and not memory.is_barred(one)]
    former = [one for one in fitting if trial.former and trial.former.is_of(one)]
    if not fitting:
        return _keep(Why.MISSING, f"{note}, and no other layout fits"), memory
    decision = _change(state, (former or fitting)[0], Action.BACK_OUT, why, note)
    if decision.way is Way.ALL_AT_ONCE and state.living and not settings.allow_outage:
        left = f"{note}; what serves stays, since the way back would leave nothing serving"
        return _keep(Why.OUTAGE, left, decision.predicted), memory
    return decision, replace(
        memory,
        changed_seconds=state.now_seconds,
        counted_on=state.cluster,
        rolling_out=True,
        window=None,
    )


def _better(
    state: ReplanState, present: Prospect, memory: ReplanMemory, settings: ReplanSettings
) -> ReplanDecision:
    best = next((one for one in state.candidates if one.room and not memory.is_barred(one)), None)
    if best is None:
        return _keep(Why.BEST, f"{present.label} stays, no other fits. {state.missing}", present)
    if best.same_as(present):
        return _keep(Why.BEST, f"{present.label} is the planner's choice", present)
    worth = gain(
        present, best, counting=state.counting, rate=state.rate, by_latency=state.by_latency
    )
    better = f"{best.label} is better than {present.label} by {worth:.1%}"
    if worth < settings.least_gain:
        note = f"{better}, below {settings.least_gain:.0%}"
        return replace(_keep(Why.NO_GAIN, note, best), gain=worth)
    lasted = state.now_seconds - memory.cluster_since_seconds
    if lasted < settings.settle_seconds:
        note = f"{better}; the cluster is the same for {lasted:.0f} s"
        return replace(_keep(Why.SETTLING, note, best), gain=worth)
    decision = _change(state, best, Action.CHANGE, Why.BETTER, better)
    decision = replace(decision, gain=worth)
    blocked = _blocked(state, present, decision, memory, settings)
    if blocked is not None:
        return replace(decision, action=Action.KEEP, why=blocked[0], note=f"{better}; {blocked[1]}")
    return decision


def _blocked(
    state: ReplanState,
    present: Prospect,
    decision: ReplanDecision,
    memory: ReplanMemory,
    settings: ReplanSettings,
) -> tuple[Why, str] | None:
    assert decision.cost_gpu_seconds is not None, "every change has a cost"
    assert decision.gain is not None, "a change for a gain has one"
    if memory.changed_seconds is not None:
        since = state.now_seconds - memory.changed_seconds
        if since < settings.least_interval_seconds:
            return Why.TOO_SOON, f"the last change was {since:.0f} s ago"
    held = state.ready * present.gpus_taken
    saved = decision.gain * held * settings.horizon_seconds
    if saved <= decision.cost_gpu_seconds:
        return Why.COST, (
            f"{decision.gain:.2f} x {held:g} GPUs x {settings.horizon_seconds:g} s = {saved:.0f} "
            f"GPU-seconds do not pay for {decision.cost_gpu_seconds:.0f}"
        )
    if decision.way is Way.ALL_AT_ONCE and not settings.allow_outage:
        return Why.OUTAGE, (
            "it finds no place beside what runs, so that nothing would serve for about "
            f"{state.start_seconds:.0f} s; set allow_outage, or free GPUs"
        )
    return None


def _change(
    state: ReplanState, taken: Prospect, action: Action, why: Why, note: str
) -> ReplanDecision:
    wanted = max(1, taken.count(state.counting, state.rate))
    way = way_of(state.present, state.living, taken, wanted, state.rate)
    cost = cost_gpu_seconds(way, state.present, state.living, taken, wanted, state.start_seconds)
    sets_number = state.counting.by is not CountBy.POLICY
    return ReplanDecision(
        action,
        why,
        note,
        choice=taken.choice(wanted),
        way=way,
        step=first_step(way, state.living, taken, wanted, sets_number=sets_number),
        cost_gpu_seconds=cost,
        predicted=taken,
    )


def _after_change(
    state: ReplanState, memory: ReplanMemory, decision: ReplanDecision
) -> ReplanMemory:
    present, taken = state.present, decision.predicted
    assert taken is not None, "a change has a prospect"
    trial = Trial(
        former=present.choice(max(1, state.ready)) if present else None,
        before=memory.window if decision.action is Action.CHANGE else None,
        expected=Expectation(
            taken.ttft_seconds,
            taken.tpot_seconds,
            state.ttft_limit_seconds,
            state.tpot_limit_seconds,
        ),
        started_seconds=state.now_seconds,
    )
    return replace(
        memory,
        changed_seconds=state.now_seconds,
        counted_on=state.cluster,
        rolling_out=True,
        window=None,
        trial=trial,
    )


def _count(state: ReplanState, present: Prospect) -> ReplanDecision | None:
    if state.counting.by is CountBy.POLICY:
        return None
    wanted = present.count(state.counting, state.rate)
    fewer_fit = state.counting.by is CountBy.FIT and 0 < wanted < state.target
    if not (wanted > state.target or fewer_fit):
        return None
    return ReplanDecision(
        Action.COUNT,
        Why.ROOM,
        f"{state.cluster} holds {present.room} x {present.label}; {wanted} wanted, {state.target} "
        "set",
        choice=present.choice(wanted),
        step=usual_step(wanted),
        predicted=present,
    )
