"""Where the calling process runs, as Ray and vLLM's platform name it."""

from __future__ import annotations

from typing import Any

import ray
from vllm.platforms import current_platform


def own_place(_worker: Any = None) -> tuple[str, str, int]:
    """Actor id, node id and GPU index of this process; vLLM passes a worker where it calls this."""
    context = ray.get_runtime_context()
    gpu = str(context.get_accelerator_ids()["GPU"][0])
    index = current_platform.device_control_id_to_physical_device_id(gpu)  # it may be a UUID
    return context.get_actor_id(), context.get_node_id(), int(index)
