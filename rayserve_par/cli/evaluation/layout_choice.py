"""The planner's layout where a recommendation is known, and why they differ.

A recommendation counts GPUs of one instance; where it runs replicas (dp_kind "replicas") gpus_used
is all of them, so it is divided by dp. Attention's DP ranks inside TP (dp_kind
"attention_dp_inside_tp") are (tp / dp, dp) in our words.

    agrees   our instance has as many GPUs, or fewer and holds one request by sizing
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from rayserve_par.cli.evaluation.config_folder import ConfigFolder
from rayserve_par.cli.evaluation.forecast import memory_fields
from rayserve_par.cli.evaluation.inputs import LayoutInput
from rayserve_par.errors import RefusedError
from rayserve_par.hardware import gpu_by_name
from rayserve_par.hardware.cluster import Cluster, NodeGroup
from rayserve_par.hardware.gpu import Gpu
from rayserve_par.model import ModelSpec
from rayserve_par.planning import Layout, Plan, illegal, plan
from rayserve_par.planning.legality import split_of
from rayserve_par.planning.request import MINIMUM_REQUEST_TOKENS
from rayserve_par.sizing import worst_rank_memory


@dataclass(frozen=True, slots=True)
class Question:
    """A model and nodes that are both known."""

    model: ModelSpec
    group: NodeGroup

    @property
    def request_tokens(self) -> int:
        """The request that must fit, as the planner takes it where none is named."""
        return min(MINIMUM_REQUEST_TOKENS, self.model.max_context_tokens)


def question_of(given: LayoutInput, configs: ConfigFolder) -> Question:
    """Raises RefusedError where the model or the GPU is not known."""
    model = configs.spec(given.model, given.precision)
    gpu = _gpu(given)
    size = given.gpus_per_node or gpu.gpus_per_node
    return Question(model, NodeGroup(gpu.name.lower(), gpu, given.nodes, size))


def _gpu(given: LayoutInput) -> Gpu:
    """The GPU by its name, or by name and memory where two are called so (A100)."""
    try:
        return gpu_by_name(given.hardware)
    except RefusedError:
        if given.gpu_memory_gib is None:
            raise
        try:
            return gpu_by_name(f"{given.hardware}-{given.gpu_memory_gib:g}")
        except RefusedError:
            pass
        raise


def choose_layout(question: Question, given: LayoutInput) -> Plan:
    """The plan for these nodes. Raises RefusedError where nothing fits."""
    return plan(question.model, Cluster((question.group,)), target=given.target)


def plan_fields(question: Question, found: Plan) -> dict[str, Any]:
    """The layout of one instance, its GPUs, and its memory."""
    layout = found.layout
    return {
        "chosen_layout": {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep},
        "chosen_gpus": layout.gpus,
        **memory_fields(found.memory, tokens=question.request_tokens),
    }


@dataclass(frozen=True, slots=True)
class Published:
    """What a row recommends; looked at only after the choice."""

    layout: Layout | None
    gpus_per_instance: int
    is_stated: bool

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "Published | None":
        """None where the row names no GPU count, or a width that is no whole number."""
        used, kind = fields.get("gpus_used"), fields.get("dp_kind")
        if not isinstance(used, int) or used < 1:
            return None
        widths = [fields.get(key) or 1 for key in ("tp", "pp", "dp", "ep")]
        if not all(isinstance(width, int) for width in widths):
            return None
        tp, pp, dp, ep = widths
        if kind == "replicas":
            used, dp = max(1, used // dp), 1
        elif kind == "attention_dp_inside_tp" and tp % dp == 0:
            tp //= dp
        try:
            layout = Layout(tp=tp, pp=pp, dp=dp, ep=ep)
        except RefusedError:
            layout = None
        return cls(layout, used, bool(fields.get("layout_stated")))

    def agrees(self, chosen_gpus: int, *, fits: bool) -> bool:
        """Whether a choice of so many GPUs is as good by the docstring's measure."""
        return chosen_gpus == self.gpus_per_instance or (
            chosen_gpus < self.gpus_per_instance and fits
        )


def why_not(question: Question, found: Plan, published: Published) -> str:
    """Why the planner preferred more GPUs than were recommended."""
    layout = published.layout
    if layout is None:
        return "the recommended layout is not one that we know"
    if not question.model.is_moe:
        layout = replace(layout, ep=1, dp=1)
    against = illegal(question.model, layout, question.group)
    if against:
        return f"{layout.label} is not legal: {'; '.join(against)}"
    memory = worst_rank_memory(question.model, question.group.gpu, split_of(layout))
    tokens = question.request_tokens
    if not memory.fits(tokens):
        return f"{layout.label} does not fit: {memory.shortage(tokens)}"
    for one in found.runner_ups:
        if one.layout == layout:
            theirs, ours = one.point, found.point
            return (
                f"{layout.label} fits too: TPOT {1e3 * theirs.tpot_seconds:.1f} ms, "
                f"{theirs.tokens_per_second_per_gpu:,.0f} tokens/s/GPU, {one.kv_tokens:,} KV "
                f"tokens; for {found.target} {found.layout.label} was taken: TPOT "
                f"{1e3 * ours.tpot_seconds:.1f} ms, {ours.tokens_per_second_per_gpu:,.0f} "
                f"tokens/s/GPU, {found.memory.kv_tokens_per_instance:,} KV tokens"
            )
    return f"{layout.label} fits ({memory.kv_tokens:,} KV tokens) but is no candidate of ours"
