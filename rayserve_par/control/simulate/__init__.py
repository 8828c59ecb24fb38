"""A discrete-event simulator of a fleet of instances, driven by the live controller's decisions."""
