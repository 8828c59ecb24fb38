"""Metrics of vLLM, Ray Serve, Ray and Prometheus that our dashboards and rules use.

vLLM's come through Ray with `model_name`, `ReplicaId` (our `instance_id`), `engine` (the DP rank)
and `node`; names as of vLLM 0.32 and Ray 2.60. Listed are those that we use, not all there are.
"""

from __future__ import annotations

from dataclasses import dataclass

from rayserve_par.serving.metric_registry.metric import Kind


@dataclass(frozen=True, slots=True)
class ForeignMetric:
    """One metric that somebody else exports, by the name that Prometheus sees."""

    exported: str
    owner: str
    kind: Kind
    text: str
    bad: str = ""
    act: str = ""

    @property
    def series(self) -> tuple[str, ...]:
        """The names of its series."""
        if self.kind is not Kind.HISTOGRAM:
            return (self.exported,)
        return tuple(f"{self.exported}_{part}" for part in ("bucket", "sum", "count"))


_VLLM = (
    ForeignMetric(
        "ray_vllm_num_requests_running", "vLLM", Kind.GAUGE, "Requests that share a batch."
    ),
    ForeignMetric(
        "ray_vllm_num_requests_waiting", "vLLM", Kind.GAUGE,
        "Requests without room in the batch yet.",
        "it grows for longer than a start takes", "More instances.",
    ),
    ForeignMetric(
        "ray_vllm_kv_cache_usage_perc", "vLLM", Kind.GAUGE,
        "Share of the KV cache's blocks in use, 0 to 1.",
        "above 0.9 for minutes, with preemptions",
        "Longer requests than planned: lower `max_num_seqs`, or a layout with more KV memory.",
    ),
    ForeignMetric(
        "ray_vllm_num_preemptions_total", "vLLM", Kind.COUNTER,
        "Requests thrown out of the batch for lack of KV memory, to start anew.",
        "not 0", "As for KV usage.",
    ),
    ForeignMetric(
        "ray_vllm_prefix_cache_queries_total", "vLLM", Kind.COUNTER,
        "Prompt tokens that were looked up in the prefix cache.",
    ),
    ForeignMetric(
        "ray_vllm_prefix_cache_hits_total", "vLLM", Kind.COUNTER,
        "Prompt tokens found there.",
        "a hit rate that fell", "Look at the routing: sessions and prefixes should stay together.",
    ),
    ForeignMetric(
        "ray_vllm_prompt_tokens_total", "vLLM", Kind.COUNTER, "Tokens of prompts."
    ),
    ForeignMetric(
        "ray_vllm_generation_tokens_total", "vLLM", Kind.COUNTER, "Tokens of answers."
    ),
    ForeignMetric(
        "ray_vllm_request_queue_time_seconds", "vLLM", Kind.HISTOGRAM,
        "Time from a request's arrival in the engine core to its first step.",
        "a p99 that is most of TTFT", "Queues: more instances.",
    ),
)  # fmt: skip

_SERVE = (
    ForeignMetric(
        "ray_serve_num_http_requests_total", "Ray Serve", Kind.COUNTER,
        "HTTP requests at Serve's front, by application and status.",
        "5xx", "`rayserve-par status`, then the replicas' logs.",
    ),
    ForeignMetric(
        "ray_serve_deployment_replica_starts_total", "Ray Serve", Kind.COUNTER,
        "1 for each replica that was started; its series ends with the replica.",
        "many more series in a quarter of an hour than replicas run",
        "Replicas end and start anew: the log of the last one says why.",
    ),
    ForeignMetric(
        "ray_serve_autoscaling_target_replicas", "Ray Serve", Kind.GAUGE,
        "Replicas that Serve is to run, of every deployment, autoscaled or not.",
    ),
    ForeignMetric(
        "ray_serve_deployment_replica_healthy", "Ray Serve", Kind.GAUGE,
        "1 for each replica that passed its latest health check.",
        "their sum stays below the target",
        "Replicas have no room or do not start: `rayserve-par status`, then the replica's log.",
    ),
)  # fmt: skip

_RAY = (
    ForeignMetric(
        "ray_resources", "Ray", Kind.GAUGE,
        "Resources by node (`instance` is its metrics endpoint), name and state (USED, AVAILABLE).",
        'no AVAILABLE of `Name="GPU"` while more instances are wanted', "Add nodes.",
    ),
    ForeignMetric(
        "ray_placement_groups", "Ray", Kind.GAUGE,
        "Placement groups of the cluster by state; each instance has one.",
        "PENDING or RESCHEDULING for minutes",
        "An instance has no room: `rayserve-par status` says what is missing.",
    ),
    ForeignMetric(
        "ray_node_cpu_utilization", "Ray", Kind.GAUGE, "CPU of the node in use, in percent.",
        "above 90", "Fronts and tokenizers compete for CPU: TTFT suffers first.",
    ),
    ForeignMetric(
        "ray_node_mem_used", "Ray", Kind.GAUGE, "Memory of the node in use, in bytes.",
        "above 95% of all", "Ray kills processes from there on.",
    ),
    ForeignMetric("ray_node_mem_total", "Ray", Kind.GAUGE, "Memory of the node, in bytes."),
)  # fmt: skip

_PROMETHEUS = (
    ForeignMetric(
        "up", "Prometheus", Kind.GAUGE, "1 where the latest scrape of a Ray node succeeded.",
        "0", "The node is gone, or its metrics port (`--metrics-export-port`) is not reachable.",
    ),
)  # fmt: skip

FOREIGN_METRICS = {
    metric.exported: metric for metric in (*_VLLM, *_SERVE, *_RAY, *_PROMETHEUS)
}  # fmt: skip
