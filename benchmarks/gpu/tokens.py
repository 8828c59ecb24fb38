"""The parts `tokens-*`: our server in a layout picks the tokens that bare vLLM picks on one rank.

A tiny random model in float32, whose next token is decided by a wide margin; greedy.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

import httpx
from rich.console import Console

from benchmarks.gpu.cases import ServedCase
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.served import bare, ours
from rayserve_par.planning import Layout

_ENGINE = {"dtype": "float32", "max_model_len": 1024, "gpu_memory_utilization": 0.3}
_PROMPTS, _PROMPT_TOKENS, _OUTPUT_TOKENS = 8, 24, 32
# Of the built-in tiny models; the first two are special.
_FIRST_TOKEN, _VOCABULARY = 2, 320


def prompts() -> list[list[int]]:
    """The same random token ids each time."""
    chosen = random.Random(0)
    return [
        [chosen.randrange(_FIRST_TOKEN, _VOCABULARY) for _ in range(_PROMPT_TOKENS)]
        for _ in range(_PROMPTS)
    ]


def tokens(case: ServedCase, machine: Machine) -> dict[str, Any]:
    """Ask both servers, and compare."""
    console = Console(highlight=False)
    model = "tiny-moe" if case.experts else "tiny-llama"
    load = case.load(machine, model, _ENGINE)
    load.prepare()
    alone = ServedCase(Layout(tp=1)).load(machine, model, _ENGINE)
    name = load.spec.served_model_name
    with (
        tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder,
        bare(console, alone, Path(folder)) as server,
    ):
        theirs = [greedy(server.url, name, prompt) for prompt in prompts()]
    with ours(console, case, load) as server:
        found = [greedy(server.url, name, prompt) for prompt in prompts()]
    return {
        "model": model,
        "engine": _ENGINE,
        "prompts": _PROMPTS,
        "tokens": sum(map(len, theirs)),
        "equal": equal(theirs, found),
        "bare": theirs,
        "ours": found,
    }


def equal(theirs: list[list[int]], found: list[list[int]]) -> int:
    """How many tokens are the same at the same place.

    Raises:
        ValueError: the answers are not equally many or long.
    """
    pairs = [
        (a, b)
        for one, other in zip(theirs, found, strict=True)
        for a, b in zip(one, other, strict=True)
    ]
    return sum(a == b for a, b in pairs)


def greedy(url: str, model: str, prompt: list[int]) -> list[int]:
    """The token ids that a server picks after these.

    Raises:
        httpx.HTTPError: it did not answer with 200.
    """
    body = {
        "model": model,
        "prompt": prompt,
        "max_tokens": _OUTPUT_TOKENS,
        "temperature": 0,
        "ignore_eos": True,
        "return_token_ids": True,
    }
    answer = httpx.post(f"{url}/v1/completions", json=body, timeout=60.0)
    answer.raise_for_status()
    return [int(token) for token in answer.json()["choices"][0]["token_ids"]]
