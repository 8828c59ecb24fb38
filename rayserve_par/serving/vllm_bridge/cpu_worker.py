"""CPU worker that runs pipeline stages eagerly and experts in parallel.

Two gaps of vLLM's CPU backend are closed here:

- With eager execution the warm-up is skipped, and it is the warm-up that allocates the buffer a
  later pipeline stage receives activations into (`intermediate_tensors`).
- The unquantised CPU experts ignore `expert_map`: global expert ids index the rank's own experts.
  Ids are mapped to local ones, and an expert that lives elsewhere gets weight 0.
"""

from __future__ import annotations

import functools
import inspect
from typing import Any

from vllm.distributed import get_pp_group
from vllm.model_executor.layers.fused_moe.experts import cpu_moe
from vllm.v1.worker.cpu_worker import CPUWorker


class LogicalCpuWorker(CPUWorker):
    """vLLM's CPU worker with pipeline parallelism (eager) and expert parallelism."""

    def load_model(self, *args: Any, **kwargs: Any) -> None:
        if self.parallel_config.enable_expert_parallel:
            honour_expert_map(cpu_moe.CPUUnquantizedExperts)
        super().load_model(*args, **kwargs)
        self._allocate_stage_input()

    def _allocate_stage_input(self) -> None:
        runner = self.model_runner
        if get_pp_group().is_first_rank or runner.intermediate_tensors is not None:
            return
        runner.intermediate_tensors = runner.model.make_empty_intermediate_tensors(
            batch_size=runner.max_num_tokens,
            dtype=runner.model_config.dtype,
            device=runner.device,
        )


def honour_expert_map(experts_class: type[Any]) -> None:
    """Wrap `experts_class.apply` (once) so that it respects its `expert_map` argument.

    `topk_ids` is (tokens, experts per token), `expert_map` (global experts) with -1 for experts
    of other ranks.
    """
    original = experts_class.apply
    if getattr(original, "honours_expert_map", False):
        return
    signature = inspect.signature(original)

    @functools.wraps(original)
    def apply(self: Any, *args: Any, **kwargs: Any) -> Any:
        call = signature.bind(self, *args, **kwargs)
        expert_map = call.arguments.get("expert_map")
        if expert_map is not None:
            ids = call.arguments["topk_ids"]
            local = expert_map[ids.long()]
            weights = call.arguments["topk_weights"]
            call.arguments["topk_weights"] = weights.masked_fill(local < 0, 0)
            call.arguments["topk_ids"] = local.clamp(min=0).to(ids.dtype)
        return original(*call.args, **call.kwargs)

    apply.honours_expert_map = True  # type: ignore[attr-defined]
    experts_class.apply = apply
