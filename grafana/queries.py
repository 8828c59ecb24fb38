"""PromQL that several dashboards share.

Where the numbers come from:

- `ray_rayserve_par_*` of replicas: by model, instance_id and node; of the controller: by
  application and model. The registry (`rayserve_par/serving/metric_registry`) has all of them.
- `ray_vllm_*`: vLLM's engine, by model_name and ReplicaId, which is our instance_id; the node is
  joined from `plan_info`, which every instance exports once.
- `ray_serve_*`: Ray Serve's front. `ray_resources`, `ray_node_*`: Ray's nodes; Prometheus calls the
  metrics endpoint that it scraped `instance`, and there is one for each Ray node.

A counter has no series for an outcome that never came, hence `or ... * 0`; admission counts every
request, so its sum is there as soon as one came.
"""

from __future__ import annotations

from grafana.panels import Query

OURS = '{model=~"$model"}'
VLLM = '{model_name=~"$model"}'
NODE_OF_REPLICA = (
    "on (ReplicaId) group_left (node)"
    f' label_replace(ray_rayserve_par_plan_info{OURS}, "ReplicaId", "$1", "instance_id", "(.+)")'
)
# What the server refused or broke, of what the engine never finished.
_LOST = "overloaded|failed|timeout"
_ENDED = "ray_rayserve_par_slo_requests_total"


def rate(metric: str, selector: str = "", window: str = "$__rate_interval") -> str:
    """Increase per second over a window."""
    return f"rate({metric}{selector}[{window}])"


def total(expr: str) -> str:
    """The sum over a model's instances."""
    return f"sum by (model) ({expr})"


def quantiles(metric: str, *, of: tuple[tuple[float, str], ...] | None = None) -> list[Query]:
    """Percentiles of one of our histograms."""
    wanted = of or ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    return [
        Query(quantile(metric, share), f"{{{{model}}}} measured {name}") for share, name in wanted
    ]


def quantile(metric: str, share: float) -> str:
    """One percentile of one of our histograms, by model."""
    rates = f"sum by (model, le) ({rate(f'{metric}_bucket', OURS)})"
    return f"histogram_quantile({share}, {rates})"


def mean(metric: str) -> str:
    """The mean of one of our histograms, by model."""
    return f"{total(rate(f'{metric}_sum', OURS))} / {total(rate(f'{metric}_count', OURS))}"


def outcome_rate(metric: str, window: str) -> str:
    """Rate of all that ended, by model; 0 where nothing ever did."""
    return f"({total(rate(metric, OURS, window))} or {_none(window)})"


def met_rate(metric: str, window: str) -> str:
    """Rate of what ended within the limits, by model; 0 where nothing did."""
    met = total(rate(metric, '{model=~"$model",outcome="met"}', window))
    return f"({met} or {_none(window)})"


def bad_share(window: str) -> str:
    """Share of requests that missed a limit, failed or were refused for lack of room, by model."""
    selector = f'{{model=~"$model",outcome=~"{_LOST}"}}'
    lost = total(rate("ray_rayserve_par_admission_total", selector, window))
    ended = outcome_rate(_ENDED, window)
    return f"1 - {met_rate(_ENDED, window)} / ({ended} + ({lost} or {_none(window)}))"


def _none(window: str) -> str:
    """0 for each model that any request ever reached."""
    return f"{total(rate('ray_rayserve_par_admission_total', OURS, window))} * 0"


def controlled(metric: str) -> str:
    """A gauge of the controller, by application; after its restart two processes may report."""
    return f"max by (application, model) (ray_rayserve_par_{metric}{OURS})"


def price_per_million_tokens(hourly: str) -> str:
    """Dollars per million output tokens of all finished requests, from dollars per hour."""
    tokens = outcome_rate("ray_rayserve_par_slo_output_tokens_total", "$__rate_interval")
    return f"({hourly}) / 3600 / ({tokens}) * 1e6"


def list_price_per_hour() -> str:
    """Dollars per hour of the GPUs that instances hold, at list price, by model."""
    return total(
        f"ray_rayserve_par_instance_gpus{OURS} * on (model, instance_id, node)"
        f" ray_rayserve_par_gpu_price_usd_per_hour{OURS}"
    )
