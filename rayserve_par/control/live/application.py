"""`rayserve_par.build_app`: what a Ray Serve config names, with the controller's way of scaling."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ray.serve import Application


def build_app(arguments: Mapping[str, Any]) -> Application:
    """Build the Serve application of one model on the cluster that this process is connected to.

    `arguments` is the config's `args:`; `AppArgs` documents its keys.

    Raises:
        RefusedError: the model, the layout, the cluster or the scaling does not allow it; the
            message has the numbers.
    """
    from rayserve_par.control.live.scaling import check_holding, scaling_for
    from rayserve_par.serving.app import build_application
    from rayserve_par.serving.config import parse_args

    check_holding(parse_args(arguments, "the application"))
    return build_application(arguments, scaling_for)
