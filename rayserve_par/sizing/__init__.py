"""Bytes: the rule of thumb, and what each rank holds."""

from rayserve_par.sizing.compare import beside_rule
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.rank_memory import RankMemory, stage_memories, worst_rank_memory
from rayserve_par.sizing.rank_weights import RankSplit
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb, size_by_rule

__all__ = [
    "EngineOptions",
    "RankMemory",
    "RankSplit",
    "RuleOfThumb",
    "beside_rule",
    "size_by_rule",
    "stage_memories",
    "worst_rank_memory",
]
