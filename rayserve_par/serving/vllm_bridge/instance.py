"""One running model instance: the engine front in this process, its ranks in the bundles.

Start: parse arguments -> engine config -> (EP: rank actors) -> AsyncLLM -> one generated token.
The engine core of an instance without DP ranks is a child process of the replica, which vLLM
starts and watches; both kinds report their end through `Instance.watch`.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
import types
import uuid
from argparse import Namespace
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import ray

from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.vllm_bridge.dp_ranks import DpRanks, prepare_dp_front, start_dp_ranks
from rayserve_par.serving.vllm_bridge.engine_args import parse_server_args
from rayserve_par.serving.vllm_bridge.lean_app import make_lean
from rayserve_par.serving.vllm_bridge.names import find_vllm_name

if TYPE_CHECKING:
    from fastapi import FastAPI
    from vllm.v1.engine.async_llm import AsyncLLM

# Request ids of our own questions whether the engine generates; they count as nobody's requests.
PROBE_PREFIX = "rayserve-par-probe-"
# Through all ranks, kernels compiled on the way; a collective that hangs takes longer.
_FIRST_TOKEN_SECONDS = 600.0
# A DP rank that died shows in Ray within this many seconds, an engine core child sooner.
_WATCH_SECONDS = 0.5


@dataclass(slots=True)
class Instance:
    """A started instance; `closing` tells its watch that the end is wanted."""

    args: Namespace
    engine: AsyncLLM
    dp_ranks: DpRanks | None
    start_seconds: float
    closing: bool = False

    async def build_asgi_app(self) -> FastAPI:
        """Build vLLM's own OpenAI server around the engine."""
        tasks = await self.engine.get_supported_tasks()
        app: FastAPI = find_vllm_name("build_app")(
            self.args, supported_tasks=tasks, model_config=self.engine.model_config
        )
        await find_vllm_name("init_app_state")(self.engine, app.state, self.args, tasks)
        # /v1/models shows it as `root`: clients need not know the node's folders.
        for served in app.state.openai_serving_models.base_model_paths:
            served.model_path = served.name
        make_lean(app)
        # vLLM's error handler tells its uvicorn server to stop; here the replica watches instead.
        app.state.server = types.SimpleNamespace()
        return app

    async def generate_one_token(self) -> None:
        """Prove that the engine generates: one greedy token, through all ranks."""
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind

        params = SamplingParams(
            max_tokens=1, temperature=0.0, output_kind=RequestOutputKind.FINAL_ONLY
        )
        prompt: Any = {"prompt_token_ids": [0]}
        async for _ in self.engine.generate(prompt, params, f"{PROBE_PREFIX}{uuid.uuid4().hex}"):
            pass

    @property
    def max_num_seqs(self) -> int:
        """Requests that run at once, on all DP ranks together."""
        config = self.engine.vllm_config
        ranks = config.parallel_config.data_parallel_size
        return int(config.scheduler_config.max_num_seqs) * int(ranks)

    @property
    def failed(self) -> bool:
        """Whether the engine or one of its DP ranks has ended."""
        if self.engine.errored:
            return True
        return self.dp_ranks is not None and _any_ended(self.dp_ranks)

    def watch(self, on_end: Callable[[str], None]) -> None:
        """Call `on_end(reason)` from a thread of its own when the engine or a DP rank ends."""

        def wait_for_end() -> None:
            while not self.closing and not self.failed:
                time.sleep(_WATCH_SECONDS)
            if not self.closing:
                on_end("the engine or one of its ranks ended")

        threading.Thread(target=wait_for_end, daemon=True, name="instance-watch").start()

    def shutdown(self) -> None:
        """Stop the engine and its ranks; safe to call twice."""
        self.closing = True
        self.engine.shutdown()
        if self.dp_ranks is not None:
            self.dp_ranks.kill()


def _any_ended(ranks: DpRanks) -> bool:
    return bool(ray.wait(ranks.end_refs, num_returns=1, timeout=0)[0])


async def start_instance(spec: ReplicaSpec, stat_loggers: list[Any]) -> Instance:
    """Start the instance of this replica in the replica's placement group and prove it generates.

    Raises:
        RefusedError: vLLM refuses an argument.
        RuntimeError: the engine or one of its ranks failed to start.
    """
    from vllm import AsyncEngineArgs, envs
    from vllm.usage.usage_lib import UsageContext
    from vllm.v1.engine.async_llm import AsyncLLM

    from rayserve_par.serving.vllm_bridge.executor import TopologyExecutor
    from rayserve_par.serving.vllm_bridge.single_rank import SingleRankExecutor, publish_single_rank

    started = time.monotonic()
    context = ray.get_runtime_context()
    # The engine core is a child process; this is how it finds the cluster.
    os.environ["RAY_ADDRESS"] = context.gcs_address
    args = parse_server_args(spec)
    if spec.plan.layout.dp > 1:
        prepare_dp_front(args, ray.util.get_node_ip_address())
    engine_args = AsyncEngineArgs.from_cli_args(args)
    single = spec.single_rank
    engine_args.distributed_executor_backend = SingleRankExecutor if single else TopologyExecutor
    # Its defaults go by this: without it batches are a quarter to an eighth of the server's.
    config = engine_args.create_engine_config(UsageContext.OPENAI_API_SERVER)
    parallel = config.parallel_config
    if not single:
        parallel.placement_group = ray.util.get_current_placement_group()
        parallel.ray_runtime_env = _with_env(parallel.ray_runtime_env, spec)
    dp_ranks = start_dp_ranks(config) if spec.plan.layout.dp > 1 else None
    guard = _StartGuard(dp_ranks)
    try:
        engine = AsyncLLM.from_vllm_config(
            config,
            stat_loggers=stat_loggers,
            enable_log_requests=engine_args.enable_log_requests,
            aggregate_engine_logging=engine_args.aggregate_engine_logging,
        )
        instance = Instance(args, engine, dp_ranks, start_seconds=0.0)
        await asyncio.wait_for(instance.generate_one_token(), _FIRST_TOKEN_SECONDS)
    except BaseException:
        guard.release()
        if dp_ranks is not None:
            dp_ranks.kill()
        raise
    guard.release()
    if single:
        publish_single_rank()
    # Read for each token of each request; vLLM caches them itself in the engine's process only.
    envs.enable_envs_cache()
    instance.start_seconds = time.monotonic() - started
    return instance


def _with_env(runtime_env: Any, spec: ReplicaSpec) -> dict[str, Any]:
    """Add the ranks' variables to the runtime environment that vLLM gives its workers."""
    env: dict[str, Any] = dict(runtime_env or {})
    variables = {**env.get("env_vars", {}), **spec.worker_env}
    if spec.cpu_ranks and os.environ.get("LD_PRELOAD"):
        # vLLM's CPU platform picks the allocator to preload, too late for processes of Ray's.
        variables["LD_PRELOAD"] = os.environ["LD_PRELOAD"]
    env["env_vars"] = variables
    return env


class _StartGuard:
    """Leave the process if a DP rank ends while vLLM waits, without limit, for its start."""

    def __init__(self, ranks: DpRanks | None) -> None:
        self._released = threading.Event()
        if ranks is not None:
            threading.Thread(target=self._guard, args=(ranks,), daemon=True).start()

    def _guard(self, ranks: DpRanks) -> None:
        while not self._released.wait(_WATCH_SECONDS):
            ended, _ = ray.wait(ranks.end_refs, num_returns=1, timeout=0)
            if ended and not self._released.is_set():
                print(f"A DP rank ended during the start: {ended[0]}", flush=True)
                os._exit(1)

    def release(self) -> None:
        """The start is over; `Instance.watch` takes over."""
        self._released.set()
