"""The main job as its user does it: `rayserve-par serve`, chat, `status`, Ctrl-C."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import openai
import psutil
import pytest

from rayserve_par.cli.local.ports import free_ports
from rayserve_par.cli.local.session import read_sessions
from tests.e2e.metrics_checks import (
    ENGINES,
    INSTANCES,
    check_expressions,
    everything_asked,
    of_controller,
)
from tests.e2e.waiting import wait_until

pytestmark = pytest.mark.engine

ROOT = Path(__file__).parents[2]
COMMAND = Path(sys.executable).parent / "rayserve-par"
MODEL = "smollm2-135m-instruct"
START_SECONDS = 300
REFUSAL_SECONDS = 5


@dataclass(frozen=True)
class Served:
    process: subprocess.Popen[str]
    url: str
    port: int
    log: Path
    session_name: str
    session_folder: str

    @property
    def client(self) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key="none", max_retries=0)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    [port] = free_ports(1)
    log = tmp_path_factory.mktemp("serve") / "log"
    with log.open("w") as output:
        process = subprocess.Popen(
            [COMMAND, "serve", "configs/smollm2-pp2.yaml", "--port", str(port)],
            cwd=ROOT, stdout=output, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
    try:
        end = time.monotonic() + START_SECONDS
        while "Serving until Ctrl-C" not in log.read_text():
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < end, log.read_text()
            time.sleep(0.5)
        session = next(s for s in read_sessions() if s.owner_pid == process.pid)
        yield Served(process, f"http://127.0.0.1:{port}", port, log, session.name, session.folder)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
            process.wait(timeout=60)


def run(*words: str | Path, seconds: float = 120) -> subprocess.CompletedProcess[str]:
    command = [str(word) for word in words]
    return subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, timeout=seconds, check=False
    )


def ask(served: Served, question: str, **more: object) -> openai.types.chat.ChatCompletion:
    return served.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": question}],
        temperature=0,
        max_tokens=32,
        **more,  # type: ignore[arg-type]
    )


def test_the_plan_is_explained_and_a_curl_is_ready(served: Served) -> None:
    text = served.log.read_text()
    assert "PP2" in text
    assert "TP1" in text, "what auto would have taken"
    assert re.search(r"VRAM = .* x 1\.8", text)
    curl = re.search(r"curl http.*?\}'", text, re.DOTALL)
    assert curl is not None
    done = run("bash", "-c", f"{curl[0]} --silent")
    assert "Paris" in json.loads(done.stdout)["choices"][0]["message"]["content"]


def test_chat_streams_and_counts(served: Served) -> None:
    assert "Paris" in str(ask(served, "What is the capital of France?").choices[0].message.content)
    stream = served.client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "What is the capital of France?"}],
        temperature=0,
        max_tokens=32,
        stream=True,
        stream_options={"include_usage": True},
    )
    chunks = list(stream)
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert "Paris" in text
    assert chunks[-1].usage is not None
    assert 0 < chunks[-1].usage.completion_tokens <= len(chunks)


def test_logprobs_and_stop_strings(served: Served) -> None:
    choice = ask(served, "What is the capital of France?", logprobs=True, top_logprobs=2).choices[0]
    assert choice.logprobs is not None
    assert choice.logprobs.content
    assert all(len(token.top_logprobs) == 2 for token in choice.logprobs.content)
    stopped = ask(served, "What is the capital of France?", stop=["Paris"]).choices[0]
    assert stopped.finish_reason == "stop"
    assert "Paris" not in str(stopped.message.content)


def test_structured_output_and_tools(served: Served) -> None:
    schema = {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"type": "integer"}},
        "required": ["city", "size"],
        "additionalProperties": False,
    }
    shaped = ask(
        served,
        "Name a city and its size as JSON.",
        response_format={"type": "json_schema", "json_schema": {"name": "c", "schema": schema}},
        extra_body={"max_tokens": 80},
    )
    assert set(json.loads(str(shaped.choices[0].message.content))) == {"city", "size"}
    function = {
        "name": "weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    }
    called = ask(
        served,
        "What is the weather in Paris?",
        tools=[{"type": "function", "function": function}],
        tool_choice={"type": "function", "function": {"name": "weather"}},
        extra_body={"max_tokens": 100},
    )
    [call] = called.choices[0].message.tool_calls or []
    assert call.function.name == "weather"  # type: ignore[union-attr]
    assert json.loads(call.function.arguments)["city"] in {"Paris", "Rome"}  # type: ignore[union-attr]


def test_the_other_endpoints(served: Served) -> None:
    assert [model.id for model in served.client.models.list()] == [MODEL]
    completion = served.client.completions.create(model=MODEL, prompt="One, two,", max_tokens=4)
    assert completion.choices[0].text
    response = served.client.responses.create(model=MODEL, input="Say hello.")
    assert response.output_text
    tokens = httpx.post(f"{served.url}/tokenize", json={"model": MODEL, "prompt": "hello"}).json()
    assert tokens["count"] == len(tokens["tokens"]) > 0
    assert httpx.get(f"{served.url}/health").status_code == 200


def test_errors_are_openai_errors(served: Served) -> None:
    with pytest.raises(openai.NotFoundError):
        served.client.chat.completions.create(model="nobody", messages=[])
    with pytest.raises(openai.BadRequestError):
        ask(served, "hello", extra_body={"max_tokens": 1_000_000})


@pytest.mark.usefixtures("served")
def test_status_draws_each_stage_on_its_own_node() -> None:
    done = run(COMMAND, "status")
    assert done.returncode == 0, done.stderr
    picture = done.stdout
    assert re.search(r"smollm2 +RUNNING +1 running", picture)
    assert re.search(r"node-1: 1 of 2 GPUs used +node-2: 1 of 2 GPUs used", picture)
    assert "stage 0" in picture
    assert "stage 1" in picture
    as_json = run(COMMAND, "status", "--json")
    [instance] = json.loads(as_json.stdout)["instances"]
    assert instance["layout"] == "PP2"
    assert len({rank["node_id"] for rank in instance["ranks"]}) == 2


def test_a_busy_port_is_refused_at_once(served: Served) -> None:
    started = time.monotonic()
    done = run(COMMAND, "serve", "configs/smollm2-pp2.yaml", "--port", str(served.port))
    assert done.returncode == 2
    assert f"Port {served.port} is busy" in done.stderr
    assert time.monotonic() - started < 5


REFUSED_ON_THIS_CLUSTER = {
    "no node holds it": ("{model: tiny-llama, layout: {tp: 4}}", "TP4|TP 4"),
    "too many GPUs": (
        "{model: tiny-llama, num_replicas: 3, layout: {pp: 2, across: nodes}}",
        "6 GPUs",
    ),
    "does not fit": ("{model: meta-llama/Llama-3.1-8B-Instruct}", "16.1 GB|does not fit"),
    "no such model": ("{model: ./nowhere}", "nowhere"),
    "illegal": ("{model: smollm2-135m-instruct, layout: {tp: 2}}", r"9 / 2 = 4\.5"),
    "unknown argument": ("{model: tiny-llama, engine: {max_modle_len: 9}}", "max_model_len"),
    "unknown key": ("{modell: tiny-llama}", "did you mean 'model'"),
}


@pytest.mark.usefixtures("served")
@pytest.mark.parametrize("case", REFUSED_ON_THIS_CLUSTER)
def test_what_cannot_be_is_refused_at_once_on_a_live_cluster(tmp_path: Path, case: str) -> None:
    args, expected = REFUSED_ON_THIS_CLUSTER[case]
    config = tmp_path / "config.yaml"
    config.write_text(
        "applications:\n"
        f"  - {{name: refused, import_path: 'rayserve_par:build_app', args: {args}}}\n"
    )
    seconds = []
    for _ in range(2):  # the better of two: the machine does other things as well
        started = time.monotonic()
        done = run(COMMAND, "deploy", config)
        seconds.append(time.monotonic() - started)
        assert done.returncode == 2, done.stdout + done.stderr
        assert re.search(expected, " ".join(done.stderr.split())), done.stderr
        if seconds[-1] < REFUSAL_SECONDS:
            return
    pytest.fail(f"refused after {seconds} s; the limit is {REFUSAL_SECONDS} s")


@pytest.mark.usefixtures("served")
def test_a_dry_run_checks_the_software_of_every_node() -> None:
    done = run(COMMAND, "deploy", "configs/smollm2-pp2.yaml", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Checking the software of every GPU node" in done.stdout
    assert "Nothing was deployed" in done.stdout


def test_ray_prometheus_endpoint_feeds_every_panel_and_rule(served: Served) -> None:
    asked = everything_asked(MODEL)
    controlled = set(of_controller(asked))
    rest = [each for each in asked if each not in controlled]
    check_expressions(
        served.session_folder, served.port, MODEL, rest, selectors=(INSTANCES, ENGINES)
    )


def test_rays_own_command_sees_the_application(served: Served) -> None:
    session = next(s for s in read_sessions() if s.name == served.session_name)
    done = run(COMMAND.parent / "serve", "status", "-a", session.dashboard_url)
    assert done.returncode == 0, done.stderr
    assert re.search(r"smollm2:\s+status: RUNNING", done.stdout)


@pytest.mark.usefixtures("served")
def test_delete_frees_every_gpu() -> None:
    nobody = run(COMMAND, "delete", "nobody")
    assert nobody.returncode == 2
    assert "smollm2" in nobody.stderr
    done = run(COMMAND, "delete", "smollm2")
    assert done.returncode == 0, done.stderr
    state = json.loads(run(COMMAND, "status", "--json").stdout)
    assert state["applications"] == []
    assert state["instances"] == []
    wait_until(
        lambda: all(
            node["gpus_free"] == node["gpus"]
            for node in json.loads(run(COMMAND, "status", "--json").stdout)["nodes"]
        ),
        30,
    )


def test_ctrl_c_leaves_nothing_behind(served: Served) -> None:
    served.process.send_signal(signal.SIGINT)
    assert served.process.wait(timeout=60) == 0, served.log.read_text()
    left = [p for p in psutil.process_iter() if _session(p) == served.session_name]
    assert left == []
    assert not Path(served.session_folder).exists()
    assert served.session_name not in {session.name for session in read_sessions()}
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", served.port)) != 0


def _session(process: psutil.Process) -> str | None:
    try:
        return process.environ().get("RAYSERVE_PAR_SESSION")
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return None


def test_after_a_kill_the_next_start_cleans_up() -> None:
    script = (
        "import os, sys\n"
        "from rayserve_par.cli.local.cluster import LocalCluster\n"
        "from rayserve_par.cli.local.ports import free_ports\n"
        "session = LocalCluster(http_port=free_ports(1)[0], nodes=1).start()\n"
        "print(session.name, session.folder, flush=True)\n"
        "os.kill(os.getpid(), 9)\n"
    )
    done = run(sys.executable, "-c", script)
    assert done.returncode == -signal.SIGKILL
    name, folder = done.stdout.split()[-2:]
    assert Path(folder).exists()
    sweep = "from rayserve_par.cli.local.session import sweep_dead_sessions as s; print(s())"
    swept = run(sys.executable, "-c", sweep)
    assert int(swept.stdout) >= 1
    assert not Path(folder).exists()
    assert name not in {session.name for session in read_sessions()}
    assert [p for p in psutil.process_iter() if _session(p) == name] == []
