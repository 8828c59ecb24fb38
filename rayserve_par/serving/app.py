"""Ray Serve's application builder: plan on the live cluster, check that it fits, bind the replica.

Serve calls `rayserve_par.build_app` with the config's `args`; everything that cannot work is
refused here, in seconds, instead of leaving a placement group PENDING.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from rayserve_par.errors import RefusedError
from rayserve_par.hardware.cluster import Cluster
from rayserve_par.placement.bundles import Placement, placement_for
from rayserve_par.planning.performance.constants import Constants
from rayserve_par.planning.plan import Plan, plan
from rayserve_par.serving.admission.key_source import has_keys
from rayserve_par.serving.config import AppArgs, parse_args
from rayserve_par.serving.direct_ingress import direct_ingress_env
from rayserve_par.serving.engine_environment import LOGICAL_GPU_ARGUMENTS, engine_environment
from rayserve_par.serving.mock_engine.times import EngineTimes
from rayserve_par.serving.model_store.locate import Model, locate_model
from rayserve_par.serving.replica_spec import ReplicaSpec
from rayserve_par.serving.sigterm import SETUP_HOOK_ENV
from rayserve_par.sizing.engine_options import EngineOptions

if TYPE_CHECKING:
    from ray.serve import Application

# Keys have priorities, which vLLM heeds with this policy alone; with equal ones it is FCFS.
_ENGINE_WITH_KEYS: dict[str, Any] = {"scheduling_policy": "priority"}
# Of Serve's in the replica: handlers on the loop that reads the requests, since every hop between
# its two loops waits for the interpreter's lock; no log line written per request; and no client
# says by X-Forwarded-For that it has another address than its own.
_SERVE_ENV = {
    **SETUP_HOOK_ENV,
    "FORWARDED_ALLOW_IPS": "",
    "RAY_SERVE_RUN_USER_CODE_IN_SEPARATE_THREAD": "0",
    "RAY_SERVE_REQUEST_PATH_LOG_BUFFER_SIZE": "1000",
}


@dataclass(frozen=True, slots=True)
class Scaling:
    """How an application scales: Serve's `autoscaling_config`, and engine arguments that it needs.

    What the config sets in `engine:` wins over `engine`. `deployment` are further options of
    Serve's deployment.
    """

    options: Mapping[str, Any]
    deployment: Mapping[str, Any] = field(default_factory=dict)
    engine: Mapping[str, Any] = field(default_factory=dict)


MakeScaling = Callable[[AppArgs, Model, Plan], Scaling | None]


def plan_for(
    args: AppArgs, model: Model, cluster: Cluster, constants: Constants | None = None
) -> Plan:
    """Plan `args` on `cluster`; `constants` are those of a calibration.

    Raises:
        RefusedError: no layout works, or the explicit one does not.
    """
    return plan(
        model.spec,
        _nodes_chosen(args, cluster),
        target=args.target,
        request=args.layout_request,
        kv_allowance=args.kv_allowance,
        instances=_planned_instances(args),
        max_model_len=args.max_model_len,
        gpu_memory_utilization=args.gpu_memory_utilization,
        workload=args.planned_workload(model.spec.max_context_tokens),
        constants=constants,
        options=_engine_options(args.engine),
    )


def _nodes_chosen(args: AppArgs, cluster: Cluster) -> Cluster:
    """The nodes that the application is pinned to; of these, where the re-planner chose, its."""
    if args.node_group is not None:
        cluster = _pinned(args.node_group, cluster)
    wanted = args.replanned.nodes if args.replanned else None
    groups = tuple(one for one in cluster.node_groups if wanted in {None, one.shape})
    if not groups:
        raise RefusedError(
            f"The controller chose the layout for nodes of {wanted}; the cluster has "
            f"{cluster.label}. Let it choose anew, or deploy the config without replanned."
        )
    return Cluster(groups)


def _pinned(node_group: str, cluster: Cluster) -> Cluster:
    try:
        return cluster.of_gpu(node_group)
    except RefusedError as refusal:
        raise RefusedError(f"node_group: {refusal}") from refusal


def _engine_options(engine: Mapping[str, Any]) -> EngineOptions:
    """The engine arguments that change its memory; what is not a plain value is left to vLLM."""
    cache = str(engine.get("kv_cache_dtype", "auto"))
    bits = {"fp8": 8.0, "bfloat16": 16.0, "float16": 16.0}.get(cache.split("_", maxsplit=1)[0])
    tokens, sequences = engine.get("max_num_batched_tokens"), engine.get("max_num_seqs")
    return EngineOptions(
        max_num_batched_tokens=tokens if isinstance(tokens, int) else None,
        max_num_seqs=sequences if isinstance(sequences, int) else None,
        kv_cache_bits=bits,
        enforce_eager=engine.get("enforce_eager") is True,
    )


def _planned_instances(args: AppArgs) -> int | None:
    """Instances that the config asks for; None for as many as fit or carry its rate."""
    if args.replanned is not None and args.autoscaling is None:
        return args.replanned.instances
    if args.autoscaling is not None or args.num_replicas == "fit":
        return None
    rated = args.workload is not None and args.workload.rate is not None
    return args.num_replicas or (None if rated else 1)


def placement_of(made: Plan) -> Placement:
    """Bundles and strategy of one instance of `made` on its node group."""
    return placement_for(
        made.layout,
        across_nodes=made.across_nodes,
        gpus_per_node=made.node_group.gpus_per_node,
        domain_gpus=made.node_group.tp_limit,
    )


def wanted_replicas(args: AppArgs, made: Plan) -> int:
    """Instances that must be there at the start: a number, the autoscaling minimum, or all."""
    if args.autoscaling is not None:
        return max(1, args.autoscaling.min_replicas)
    return made.instances


def planned_batch(made: Plan, model: Model) -> dict[str, int]:
    """The engine's batch as it was planned.

    vLLM's own defaults depend on the GPU that its front process sees, and a replica of several
    ranks sees none; memory and times were planned with these.
    """
    tokens, sequences = made.engine_options.batch(made.node_group.gpu, model.spec)
    return {"max_num_batched_tokens": tokens, "max_num_seqs": sequences}


def replica_spec(
    args: AppArgs, model: Model, made: Plan, scaling: Scaling | None = None
) -> ReplicaSpec:
    """What each replica is told."""
    cpu_ranks = made.node_group.gpu.engine_backend == "cpu"
    return ReplicaSpec(
        model_path=model.load_path,
        served_model_name=args.public_name,
        aliases=args.aliases,
        node_group=None if args.node_group is None else made.node_group.gpu.name,
        admission=args.admission,
        mock=(
            None
            if args.mock_engine is None
            else EngineTimes.from_mapping(args.mock_engine, made.layout.label)
        ),
        plan=made,
        placement=placement_of(made),
        cpu_ranks=cpu_ranks,
        engine={
            **(LOGICAL_GPU_ARGUMENTS if cpu_ranks else planned_batch(made, model)),
            **(_ENGINE_WITH_KEYS if has_keys(args.admission.keys_file) else {}),
            **({} if scaling is None else scaling.engine),
            **args.engine,
        },
        worker_env=engine_environment(logical_gpus=cpu_ranks),
    )


def deployment_options(
    args: AppArgs, made: Plan, spec: ReplicaSpec, scaling: Scaling | None
) -> dict[str, Any]:
    """Serve's options of the replica deployment."""
    placement, env = spec.placement, dict(spec.worker_env)
    options: dict[str, Any] = {
        "name": "instance",
        "ray_actor_options": {
            "num_cpus": 1,
            "num_gpus": 1 if spec.single_rank else 0,
            "runtime_env": {"env_vars": {**_SERVE_ENV, **direct_ingress_env(), **env}},
        },
        "placement_group_bundles": [dict(bundle) for bundle in placement.bundles],
        "placement_group_strategy": placement.strategy,
        "max_ongoing_requests": args.max_ongoing_requests,
        "health_check_period_s": 10,
        "health_check_timeout_s": 30,
        "graceful_shutdown_timeout_s": args.drain_timeout_s,
        "logging_config": {"enable_access_log": False},
    }
    if scaling is not None:
        options.update(autoscaling_config=dict(scaling.options), **scaling.deployment)
    else:
        options["num_replicas"] = wanted_replicas(args, made)
    return options


def build_application(arguments: Mapping[str, Any], make_scaling: MakeScaling) -> Application:
    """Build the Serve application of one model on the cluster that this process is connected to.

    `arguments` is the config's `args:`; `AppArgs` documents its keys. `make_scaling` is asked how
    it scales; None for a fixed number. `rayserve_par.build_app` gives it the controller's.

    Raises:
        RefusedError: the model, the layout or the cluster does not allow it; the message has the
            numbers.
    """
    from ray import serve

    from rayserve_par.serving.cluster_view import live_cluster
    from rayserve_par.serving.replica import ModelReplica
    from rayserve_par.serving.room import bundle_label_selector, check_room
    from rayserve_par.serving.vllm_bridge.argument_names import check_argument_names
    from rayserve_par.serving.vllm_bridge.versions import check_vllm_version, installed_vllm

    args = parse_args(arguments, "the application")
    check_vllm_version(installed_vllm())
    check_argument_names(args.engine)
    cluster = live_cluster()
    model = locate_model(args.model)
    made = plan_for(args, model, cluster)
    scaling = make_scaling(args, model, made)
    spec = replica_spec(args, model, made, scaling)
    check_room(spec.placement, made, wanted_replicas(args, made), args.public_name)
    options = deployment_options(args, made, spec, scaling)
    selector = bundle_label_selector(made, pinned=args.node_group is not None)
    if selector is not None:
        options["placement_group_bundle_label_selector"] = selector
    deployment = serve.deployment(serve.ingress()(ModelReplica))
    return deployment.options(**options).bind(spec)
