"""Observe, decide, act: what runs on the cluster, and how it gets there."""
