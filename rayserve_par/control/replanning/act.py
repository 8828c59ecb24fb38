"""Carries a decision out: one new document for Serve, which replaces replicas by itself.

The same decision twice is the same document twice, which changes nothing.
"""

from __future__ import annotations

from typing import Any

from rayserve_par.control.decide.prospect import CountBy, Counting
from rayserve_par.control.decide.replan_state import Action, ReplanDecision
from rayserve_par.control.replanning.document import with_choice, with_step
from rayserve_par.control.serve_client import ServeClient


def carry_out(client: ServeClient, app: str, decision: ReplanDecision, counting: Counting) -> None:
    """Redeploy `app` as decided.

    Raises:
        RefusedError: the application is gone, or Serve refuses the document.
    """

    def changed(config: dict[str, Any]) -> dict[str, Any]:
        assert decision.choice is not None, "a decision that acts has a choice"
        assert decision.step is not None, "a decision that acts has a step"
        new = config
        if decision.action is not Action.COUNT:
            if (config.get("args") or {}).get("layout", "auto") != "auto":
                return config  # its user has set the layout since
            new = with_choice(new, decision.choice)
        return with_step(new, decision.step, sets_number=counting.by is not CountBy.POLICY)

    client.redeploy(app, changed)
