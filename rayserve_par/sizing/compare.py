"""The rule of thumb beside the exact memory of the fullest rank, and why they differ.

    rule, per GPU      weights / GPUs + (allowance - 1) x weights / GPUs
    exact, per GPU     weights + reserve + KV + what gpu_memory_utilization leaves, of usable memory

    weights differ     by what ranks repeat (KV heads, router, norms, attention of DP ranks), pad
                       (vocabulary, 4-bit blocks) or copy (kv_b_proj for decoding), by the ends of
                       the stages, and by matrices that are not quantised
    KV differs         because the rule allows a share of the weights, whatever the layers store,
                       and exact sizing takes what is left
    not in the rule    reserve; memory above the utilization; marketed less usable memory

Decimal GB throughout, as the rule counts.
"""

from rayserve_par.sizing.rank_memory import RankMemory
from rayserve_par.sizing.rule_of_thumb import RuleOfThumb

_GB = 1e9


def beside_rule(rule: RuleOfThumb, memory: RankMemory, gpus: int) -> tuple[str, ...]:
    """Lines that set the rule against the exact numbers for an instance of `gpus` GPUs."""
    rule_weights = rule.weights_gb / gpus
    rule_kv = (rule.vram_gb - rule.weights_gb) / gpus
    weights, reserve = memory.weight_bytes / _GB, memory.reserve_bytes / _GB
    kv, usable = memory.kv_bytes / _GB, memory.usable_bytes / _GB
    unused = usable - memory.budget_bytes / _GB
    lacking = rule.gpu_memory_gb - usable
    marketed = f"{abs(lacking):.1f} GB {'less' if lacking > 0 else 'more'} usable than marketed"
    return (
        f"rule of thumb: {rule.vram_gb:.1f} GB / {gpus} GPUs = {rule.vram_gb / gpus:.1f} GB a GPU "
        f"({rule_weights:.1f} weights + {rule_kv:.1f} KV) of {rule.gpu_memory_gb:g} GB",
        f"exact, fullest rank: weights {weights:.1f} + reserve {reserve:.1f} + KV {kv:.1f} + above "
        f"the utilization {unused:.1f} = {usable:.1f} GB usable",
        f"weights {weights - rule_weights:+.1f} GB: what ranks repeat, pad or keep in other "
        "precisions, and the ends of the stages",
        f"KV {kv - rule_kv:+.1f} GB: the rule allows {rule.kv_allowance - 1:.1f} x weights, exact "
        "is what is left",
        f"not in the rule: reserve {reserve:.1f}, above the utilization {unused:.1f}; {marketed}",
    )
