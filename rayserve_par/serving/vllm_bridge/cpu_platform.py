"""vLLM platform for logical GPUs: each rank is a CPU process that Ray counts as one GPU.

It differs from vLLM's CPU platform in four points: Ray's device key is `GPU`, an executor class
that was asked for is kept (vLLM's own check overwrites it), the worker is `LogicalCpuWorker`, and
the communicator has the two collectives that expert parallelism needs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from vllm.platforms.cpu import CpuPlatform

if TYPE_CHECKING:
    from vllm.config import VllmConfig

_HERE = "rayserve_par.serving.vllm_bridge"


class LogicalCpuPlatform(CpuPlatform):
    """CPU ranks that are scheduled through Ray's `GPU` resource."""

    ray_device_key = "GPU"
    ray_noset_device_env_vars: ClassVar[list[str]] = ["RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES"]

    @classmethod
    def check_and_update_config(cls, vllm_config: VllmConfig) -> None:
        parallel = vllm_config.parallel_config
        executor = parallel.distributed_executor_backend
        super().check_and_update_config(vllm_config)
        if executor is not None:
            parallel.distributed_executor_backend = executor
        if parallel.worker_cls == "vllm.v1.worker.cpu_worker.CPUWorker":
            parallel.worker_cls = f"{_HERE}.cpu_worker.LogicalCpuWorker"

    @classmethod
    def get_device_communicator_cls(cls) -> str:
        return f"{_HERE}.cpu_communicator.LogicalCpuCommunicator"
