"""Judging the planner against a folder of measurements: `rayserve-par evaluate`."""
