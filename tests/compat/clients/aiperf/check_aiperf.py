"""AIPerf profiles us to its end: streamed chats and completions."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import KEY, TINY, TOKENIZER, URL

REQUESTS, OUTPUT_TOKENS = 24, 12
AIPERF = Path(sys.executable).with_name("aiperf")


@pytest.mark.parametrize("endpoint", ["chat", "completions"])
@pytest.mark.timeout(280)
def test_profile(
    endpoint: str, tmp_path: Path, record_testsuite_property: Callable[[str, Any], None]
) -> None:
    # In its offline mode AIPerf takes a folder for a name of the hub.
    online = {key: value for key, value in os.environ.items() if key != "HF_HUB_OFFLINE"}
    done = subprocess.run(
        [
            AIPERF, "profile", "--model", TINY, "--url", URL, "--endpoint-type", endpoint,
            "--streaming", "--api-key", KEY, "--tokenizer", TOKENIZER, "--concurrency", "4",
            "--request-count", str(REQUESTS), "--synthetic-input-tokens-mean", "32",
            "--output-tokens-mean", str(OUTPUT_TOKENS), "--use-server-token-count",
            "--extra-inputs", "ignore_eos:true", "--random-seed", "1",
            "--output-artifact-dir", tmp_path, "--ui", "none",
        ],
        env=online, capture_output=True, text=True, timeout=270, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-2000:]
    report = json.loads((tmp_path / "profile_export_aiperf.json").read_text())
    assert report["request_count"]["avg"] == REQUESTS
    assert not report.get("error_summary")
    assert report["output_sequence_length"]["avg"] == OUTPUT_TOKENS
    first = report["time_to_first_token"]["p50"]
    assert first > 0
    record_testsuite_property(
        "compat-note",
        f"{endpoint}: {REQUESTS} requests, {report['request_throughput']['avg']:.1f} a second, "
        f"TTFT p50 {first:.1f} ms (busy machine: no measurement)",
    )
