"""The parts of a model that are stored, split and quantised alike."""

from enum import StrEnum


class Component(StrEnum):
    """One part. RECURRENT is every mixer with a state per request instead of a KV cache."""

    EMBEDDING = "embedding"
    HEAD = "head"
    ATTENTION = "attention"
    RECURRENT = "recurrent"
    DENSE_MLP = "dense_mlp"
    ROUTED_EXPERTS = "routed_experts"
    SHARED_EXPERTS = "shared_experts"
    ROUTER = "router"
    NORMS = "norms"
    VISION = "vision"
