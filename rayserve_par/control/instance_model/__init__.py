"""One instance as the controller sees it: step times of its engine and the load it carries."""

from rayserve_par.control.instance_model.capacity import Capacity, InstanceModel
from rayserve_par.control.instance_model.step_times import StepTimes

__all__ = ["Capacity", "InstanceModel", "StepTimes"]
