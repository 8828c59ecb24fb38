"""What is written down about an application after a look. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from rayserve_par.control.decide.state import ModelState, Phase
from rayserve_par.control.live.carried_out import CarriedOut
from rayserve_par.control.live.records import ControlStatus, InstanceStatus, Mode
from rayserve_par.control.live.settings import LiveSettings
from rayserve_par.control.live.view import ServeView

_RATE_SECONDS = 60.0


def control_status(
    settings: LiveSettings,
    view: ServeView,
    state: ModelState,
    done: CarriedOut,
    *,
    ages: Mapping[str, float],
    correction: float,
    decision_seconds: float,
    problems: tuple[str, ...],
) -> ControlStatus:
    """The status after a decision; `ages` are those of the instances' reports."""
    ready, decision = state.count(Phase.READY), done.decision
    now = next((one for one in decision.options if one.instances == ready), None)
    return ControlStatus(
        app=view.app,
        model=settings.model,
        layout=settings.layout,
        gpus_per_instance=settings.gpus_per_instance,
        seconds=state.now_seconds,
        mode=done.mode,
        wanted=done.number,
        decided=decision.wanted,
        reason=decision.reason.value,
        ready=ready,
        starting=state.count(Phase.STARTING),
        draining=state.count(Phase.DRAINING),
        least=settings.scale.bounds.least,
        most=settings.scale.bounds.most,
        room=state.room,
        requests_per_second=state.load.rate(_RATE_SECONDS),
        isl=state.load.isl,
        osl=state.load.osl,
        ttft_target_seconds=settings.ttft_limit,
        tpot_target_seconds=settings.tpot_limit,
        ttft_seconds=state.measured.ttft_seconds,
        tpot_seconds=state.measured.tpot_seconds,
        predicted_ttft_seconds=None if now is None else now.ttft_seconds,
        predicted_tpot_seconds=None if now is None else now.tpot_seconds,
        correction=correction,
        start_seconds=state.start_seconds,
        decision_seconds=decision_seconds,
        look_seconds=settings.scale.look_seconds,
        load_age_seconds=state.now_seconds - state.load.end_seconds,
        instances=tuple(
            InstanceStatus(
                name=one.name,
                phase=one.phase.value,
                running=one.running,
                waiting=one.waiting,
                kv_use=one.kv_use,
                age_seconds=ages.get(one.name, 0.0),
            )
            for one in state.instances
        ),
        problems=(*done.problems, *problems),
    )


def failure_status(
    settings: LiveSettings,
    app: str,
    target: int,
    *,
    now_seconds: float,
    failures: int,
    error: Exception,
) -> ControlStatus:
    """The status after a look that failed: the number stays, and the error is said.

    How many of the `target` instances are ready was not seen; all are said to start.
    """
    return ControlStatus(
        app=app,
        model=settings.model,
        layout=settings.layout,
        gpus_per_instance=settings.gpus_per_instance,
        seconds=now_seconds,
        mode=Mode.ACTING,
        wanted=target,
        decided=target,
        reason="failed",
        ready=0,
        starting=target,
        draining=0,
        least=settings.scale.bounds.least,
        most=settings.scale.bounds.most,
        room=None,
        requests_per_second=0.0,
        isl=settings.isl,
        osl=settings.osl,
        ttft_target_seconds=settings.ttft_limit,
        tpot_target_seconds=settings.tpot_limit,
        ttft_seconds=None,
        tpot_seconds=None,
        predicted_ttft_seconds=None,
        predicted_tpot_seconds=None,
        correction=1.0,
        start_seconds=settings.start_seconds,
        decision_seconds=0.0,
        look_seconds=settings.scale.look_seconds,
        problems=(
            f"the decision failed, {failures} so far: {type(error).__name__}: {error}. "
            f"{target} instances stay.",
        ),
    )
