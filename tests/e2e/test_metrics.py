"""Panels and rules of the controller have data where an application is scaled by it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from rayserve_par.control.live import store
from tests.e2e.conftest import APP, Deployer
from tests.e2e.metrics_checks import (
    CONTROLLER,
    INSTANCES,
    check_expressions,
    everything_asked,
    of_controller,
)
from tests.e2e.test_autoscaling import ARGS

# By itself: other tests count requests to the same model on the same cluster.
pytestmark = [pytest.mark.engine, pytest.mark.long]


@pytest.fixture
def scaled(deployer: Deployer) -> Iterator[Deployer]:
    store.forget(APP)
    deployer.deploy(ARGS)
    yield deployer
    deployer.delete()
    store.forget(APP)


def test_a_scaled_application_feeds_every_panel_and_rule_of_the_controller(
    scaled: Deployer,
) -> None:
    session = scaled.cluster.session
    assert session is not None
    scaled.cluster.start_dashboard()
    asked = of_controller(everything_asked(ARGS["model"]))
    names = " ".join(each.expr for each in asked)
    assert "control_step_correction" in names
    assert "application:rayserve_par_step_correction:max" in names
    check_expressions(
        session.folder,
        session.http_port,
        ARGS["model"],
        asked,
        selectors=(CONTROLLER, INSTANCES),
        alone=True,
    )
