"""The peer: Ray Serve LLM with its defaults, one instance, in a process and a cluster of its own.

Run: python -m benchmarks.front.serve_llm MODEL_PATH NAME PORT ENGINE_JSON
It serves until SIGTERM. ray[llm] pins another vLLM than ours, so it is not in our environment;
what it needs besides (pyarrow, pandas, ...) must be on PYTHONPATH, which `benchmarks.front.servers`
sees to.
"""

from __future__ import annotations

import argparse
import json
import signal
import tempfile
import threading
from types import FrameType
from typing import Any

import ray
from ray import serve

HOST = "127.0.0.1"


def application(model_path: str, name: str, engine: dict[str, Any]) -> Any:
    """Ray Serve LLM's OpenAI application of one model on one CPU."""
    from ray.serve.llm import LLMConfig, build_openai_app

    config = LLMConfig(
        model_loading_config={"model_id": name, "model_source": model_path},
        engine_kwargs=engine,
        accelerator_config={"kind": "cpu"},
        deployment_config={"autoscaling_config": {"min_replicas": 1, "max_replicas": 1}},
        placement_group_config={"bundles": [{"CPU": 1}], "strategy": "PACK"},
    )
    return build_openai_app({"llm_configs": [config]})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model_path")
    parser.add_argument("name")
    parser.add_argument("port", type=int)
    parser.add_argument("engine", type=json.loads)
    args = parser.parse_args()
    over = threading.Event()

    def stop(_signal: int, _frame: FrameType | None) -> None:
        over.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, stop)
    with tempfile.TemporaryDirectory(prefix="peer-") as folder:
        ray.init(num_cpus=8, _temp_dir=folder, include_dashboard=False, log_to_driver=False)
        try:
            serve.start(proxy_location="HeadOnly", http_options={"host": HOST, "port": args.port})
            app = application(args.model_path, args.name, args.engine)
            serve.run(app, name="peer", route_prefix="/", blocking=False)
            over.wait()
        finally:
            serve.shutdown()
            ray.shutdown()


if __name__ == "__main__":
    main()
