"""Measurements that are run by hand or by make, each with its own targets."""
