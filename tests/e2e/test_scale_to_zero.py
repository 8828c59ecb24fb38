"""From no instance and back: requests that come meanwhile wait, and all of them are answered."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from rayserve_par.cli.local.ports import free_ports
from tests.e2e.waiting import wait_until

pytestmark = [pytest.mark.engine, pytest.mark.long]

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "rayserve-par"
CONFIG = """
applications:
  - name: sleeper
    route_prefix: /
    import_path: rayserve_par:build_app
    args:
      model: tiny-llama
      layout: {tp: 1}
      workload: {isl: 64, osl: 32, ttft_ms: 1000, tpot_ms: 100}
      autoscaling:
        {min_replicas: 0, max_replicas: 2, look_seconds: 1, start_seconds: 5, to_zero_seconds: 12}
      mock_engine: {step_base_seconds: 0.02}
"""
HELD = 8


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("zero")
    config, log = folder / "config.yaml", folder / "log"
    config.write_text(CONFIG, encoding="utf-8")
    [port] = free_ports(1)
    with log.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", config, "--port", str(port)],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "RAYSERVE_PAR_FRONT_HOLD": "true"},
        )  # fmt: skip
    try:
        wait_until(lambda: "Serving until Ctrl-C" in log.read_text() or process.poll(), 300)
        assert process.poll() is None, log.read_text()
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def instances() -> int:
    done = subprocess.run(
        [COMMAND, "status", "--json"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return len(json.loads(done.stdout)["instances"])


def test_it_sleeps_and_wakes_without_losing_a_request(url: str) -> None:
    body = {"model": "tiny-llama", "prompt": "Good morning", "max_tokens": 8}

    async def ask(client: httpx.AsyncClient, number: int) -> int:
        stream = number % 2 == 1
        answer = await client.post(f"{url}/v1/completions", json={**body, "stream": stream})
        text = answer.text
        assert ("[DONE]" in text) == stream, text
        return answer.status_code

    async def ask_all() -> list[int]:
        async with httpx.AsyncClient(timeout=120) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(HELD)))

    wait_until(lambda: instances() == 0, 60, every=1)
    begun = time.monotonic()
    assert asyncio.run(ask_all()) == [200] * HELD
    print(f"{HELD} requests, answered {time.monotonic() - begun:.1f} s after they came to nobody")
    assert instances() >= 1
    # and awake it answers as always
    begun = time.monotonic()
    assert httpx.post(f"{url}/v1/completions", json=body, timeout=30).status_code == 200
    assert time.monotonic() - begun < 5
    wait_until(lambda: instances() == 0, 60, every=1)
