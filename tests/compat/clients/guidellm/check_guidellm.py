"""GuideLLM benchmarks us to its end: four streams at a time, then one after the other."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from served import KEY, TINY, TOKENIZER, URL

REQUESTS, OUTPUT_TOKENS = 24, 12
GUIDELLM = Path(sys.executable).with_name("guidellm")


@pytest.mark.parametrize("profile", ["kind=concurrent,streams=4", "kind=synchronous"])
@pytest.mark.timeout(280)
def test_benchmark(
    profile: str, tmp_path: Path, record_testsuite_property: Callable[[str, Any], None]
) -> None:
    report_file = tmp_path / "report.json"
    data = f"kind=synthetic_text,prompt_tokens=32,output_tokens={OUTPUT_TOKENS}"
    done = subprocess.run(
        [
            GUIDELLM, "run",
            "--backend", f"kind=openai_http,target={URL},model={TINY},api_key={KEY}",
            "--profile", profile, "--constraint", f"kind=max_requests,count={REQUESTS}",
            "--tokenizer", f"kind=hf_auto,model={TOKENIZER}", "--data", data,
            "--output", f"kind=json,path={report_file}", "--disable-console",
        ],
        capture_output=True, text=True, timeout=270, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    [benchmark] = json.loads(report_file.read_text())["benchmarks"]
    made = benchmark["metrics"]["request_totals"]
    assert made["successful"] == REQUESTS
    assert made["errored"] == 0
    record_testsuite_property(
        "compat-note", f"{profile}: {made['successful']} requests, {made['errored']} errors"
    )
