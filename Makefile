# `make serve` sets up everything and serves a real model; `make test` passes the tests.
PYTHON ?= python3
VENV ?= .venv
CONFIG ?= configs/smollm2-pp2.yaml
PORT ?= 8000
BENCH_MODEL ?= tiny-llama
ENGINE ?= mock
RESULTS ?= build/gpu
MINUTES ?= 60
EVIDENCE ?= ../shared/evidence
MODEL_CONFIGS ?= ../shared/model_configs
bin := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help env serve test test-unit test-e2e test-long lint compat bench-front bench-gpu bench-routing bench-scaling bench-autoscaling bench-replay bench-replay-counts bench-decision reliability soak eval-planner observability clean

help: ## this list
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /|/' | awk -F'|' '{printf "  make %-12s %s\n", $$1, $$2}'

env: ## make the environment in .venv
	@scripts/make_env.sh $(VENV) $(PYTHON)

serve: env ## serve SmolLM2 as two pipeline stages on two Ray nodes (CONFIG=..., PORT=...)
	@exec $(bin)/rayserve-par serve $(CONFIG) --port $(PORT)

test: lint ## all tests: unit, property and end to end on a real local cluster
	$(bin)/python -m pytest tests

test-unit: env ## the tests that start no engine (seconds)
	$(bin)/python -m pytest tests -m "not engine"

test-e2e: env ## the end-to-end tests only
	$(bin)/python -m pytest tests -m "engine and not long"

test-long: env ## end to end: autoscaling, shared GPUs, node groups, to zero, re-planning, its metrics, an update (35 minutes)
	$(bin)/python -m pytest -m engine tests/e2e/test_autoscaling.py
	$(bin)/python -m pytest -m engine tests/e2e/test_shared_gpus.py
	$(bin)/python -m pytest -m engine tests/e2e/test_node_groups_scaling.py
	$(bin)/python -m pytest -m engine tests/e2e/test_scale_to_zero.py
	$(bin)/python -m pytest -m engine tests/e2e/test_replan.py
	$(bin)/python -m pytest -m engine tests/e2e/test_replan_load.py
	$(bin)/python -m pytest -m engine tests/e2e/test_replan_controllers_die.py
	$(bin)/python -m pytest -m engine tests/e2e/test_metrics.py
	$(bin)/python -m pytest -m long tests/e2e/test_faults.py

lint: env ## ruff and mypy
	$(bin)/ruff check .
	$(bin)/ruff format --check .
	$(bin)/mypy

compat: env ## other people's clients against our server (ONLY="litellm abuse")
	$(bin)/python -m tests.compat $(ONLY) --keep-logs build/compat \
	  $(if $(ONLY),,--docs docs/compatibility.md)

bench-front: env ## bare vLLM server against ours, same run, at 1, 8, 32, 128 streams (BENCH_MODEL=...)
	$(bin)/python -m benchmarks.front --model $(BENCH_MODEL)

bench-gpu: env ## the product on this machine's GPUs, against plan and bare vLLM (RESULTS=..., ONLY="engine")
	$(bin)/python -m benchmarks.gpu --out $(RESULTS) $(if $(ONLY),--only $(ONLY))
	$(bin)/python -m benchmarks.gpu.report --results $(RESULTS)

bench-routing: env ## a chat trace on mock engines behind HAProxy, by routing policy
	$(bin)/python -m benchmarks.routing --json build/routing.json --markdown build/routing.md

bench-scaling: env ## throughput over 1, 2, 4, 8 mock instances behind HAProxy
	$(bin)/python -m benchmarks.scaling --json build/scaling.json

bench-autoscaling: env ## the scaling policy against others and an oracle, simulated (half an hour)
	$(bin)/python -m benchmarks.autoscaling --json build/autoscaling.json --markdown build/autoscaling.md

bench-replay: env ## the simulator against a real local cluster, slices of a trace (ENGINE=tiny-llama)
	$(bin)/python -m benchmarks.autoscaling.replay --engine $(ENGINE) --json build/replay-$(ENGINE).json

bench-replay-counts: env ## the live controller's instance counts beside the simulator's, same load
	$(bin)/python -m benchmarks.autoscaling.replay_counts --json build/replay-counts.json

bench-decision: env ## seconds of one scaling decision, for 1 to 1,000 instances
	$(bin)/python -m benchmarks.autoscaling.decision_time

reliability: env ## parts killed, drained, updated, overloaded under load (SCENARIOS="replica node")
	$(bin)/python -m benchmarks.reliability $(SCENARIOS) --json build/reliability.json \
	  $(if $(SCENARIOS),,--docs docs/reliability.md)

soak: env ## a mixed load for an hour: outcomes and memory slopes (MINUTES=...)
	$(bin)/python -m benchmarks.reliability.soak --minutes $(MINUTES) --json build/soak.json

eval-planner: env ## the planner against measurements (EVIDENCE=..., MODEL_CONFIGS=...)
	@if [ ! -d "$(EVIDENCE)" ] || [ ! -d "$(MODEL_CONFIGS)" ]; then \
	  echo "eval-planner: nothing to compare with: $(EVIDENCE) or $(MODEL_CONFIGS) is not there."; \
	  exit 0; \
	fi; \
	$(bin)/rayserve-par evaluate --evidence "$(EVIDENCE)" --configs "$(MODEL_CONFIGS)" && \
	$(bin)/python -m scripts.fit_performance --evidence "$(EVIDENCE)" \
	  --configs "$(MODEL_CONFIGS)" --cross-validate

observability: env ## write dashboards, their Kubernetes manifests and docs/metrics.md anew
	$(bin)/python -m grafana.generate
	$(bin)/python -m scripts.observability_manifests
	$(bin)/python -m scripts.metrics_page

clean: ## remove the environment and caches of this folder
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
