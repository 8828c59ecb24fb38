"""The parts `steps-*`: where a decode step's time goes on each rank, by torch's profiler.

An engine without a server decodes a batch whose prompts it has cached, so that what is recorded are
decode steps and one short prefill. Recording slows the host, not the kernels: shares are of the
time in which the GPU is busy.
"""

from __future__ import annotations

import random
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.gpu.cases import ISL_TOKENS, MAX_MODEL_LEN, EngineCase
from benchmarks.gpu.engine import stand_in
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.step_trace import read_trace, step_times
from rayserve_par.control.calibration.engine import engine_arguments, loadable, run_engine

_BATCHES, _DECODE_TOKENS = (1, 32), 32
_LOGICAL_BATCHES, _LOGICAL_PROMPT_TOKENS, _LOGICAL_DECODE_TOKENS = (1, 4), 64, 8
_TRACE = ".pt.trace.json.gz"
# Ids below are often special tokens.
_FIRST_TOKEN = 10
# How vLLM's name of a trace tells the rank: dp0_pp0_tp1_dcp0_ep0_rank1.
_RANK = re.compile(r"rank(\d+)")


def steps(case: EngineCase, machine: Machine) -> dict[str, Any]:
    """Start the engine, record decode steps of each batch, and sum them up by rank.

    Raises:
        MeasurementFailedError: the engine did not start or did not finish.
    """
    layout, on_gpu = case.layout, not machine.is_logical
    name = case.model if on_gpu else stand_in(layout)
    batches = _BATCHES if on_gpu else _LOGICAL_BATCHES
    prompt = ISL_TOKENS if on_gpu else _LOGICAL_PROMPT_TOKENS
    decoded = _DECODE_TOKENS if on_gpu else _LOGICAL_DECODE_TOKENS
    engine = {"tensor_parallel_size": layout.tp, **engine_arguments(on_gpu, case.arguments)}
    with tempfile.TemporaryDirectory(prefix="bench-gpu-") as folder, loadable(name) as model:
        limit = min(MAX_MODEL_LEN, model.spec.max_context_tokens)
        what = (model.load_path, folder, {**engine, "max_model_len": limit})
        run_engine("The recorded run", _record, (*what, batches, prompt, decoded), on_gpu)
        recorded = [
            {"batch": batch, "steps": decoded, "ranks": _ranks(Path(folder), batch)}
            for batch in batches
        ]
    sizes = {"tp": layout.tp, "pp": layout.pp, "dp": layout.dp, "ep": layout.ep}
    return {"model": name, "layout": sizes, "prompt_tokens": prompt, "batches": recorded}


def _ranks(folder: Path, batch: int) -> list[dict[str, Any]]:
    """What each rank's trace says, by its number.

    Raises:
        FileNotFoundError: no rank left a trace.
    """
    found = []
    for file in sorted(_of_batch(folder, batch).glob(f"*{_TRACE}")):
        rank = _RANK.search(file.name)
        times = asdict(step_times(read_trace(file)))
        found.append({"rank": int(rank[1]) if rank else None, **times})
    if not found:
        raise FileNotFoundError(f"no trace *{_TRACE} in {_of_batch(folder, batch)}")
    return found


def _of_batch(folder: Path, batch: int) -> Path:
    return folder / f"decode-of-{batch}"


def _set_aside(folder: Path, batch: int) -> None:
    """Move what has been recorded: vLLM 0.25 gives all traces of a rank the name of its first."""
    aside = _of_batch(folder, batch)
    aside.mkdir()
    for file in folder.glob(f"*{_TRACE}"):
        file.rename(aside / file.name)


def _record(
    _rank: int,
    _folder: str,
    model: str,
    traces: str,
    engine: Mapping[str, Any],
    batches: Sequence[int],
    prompt_tokens: int,
    decode_tokens: int,
) -> None:
    """In a process of its own: leave one trace a batch and rank in the folder `traces`."""
    import vllm

    arguments: dict[str, Any] = {
        "load_format": "dummy",
        "skip_tokenizer_init": True,
        "max_num_seqs": max(batches),
        "enable_prefix_caching": True,
        "profiler_config": {
            "profiler": "torch",
            "torch_profiler_dir": traces,
            "torch_profiler_with_stack": False,
        },
        **engine,
    }
    llm = vllm.LLM(model, **arguments)
    chosen = random.Random(0)
    vocabulary = llm.llm_engine.vllm_config.model_config.get_vocab_size()
    try:
        for batch in batches:
            prompts: list[Any] = [
                {
                    "prompt_token_ids": [
                        chosen.randrange(_FIRST_TOKEN, vocabulary) for _ in range(prompt_tokens)
                    ]
                }
                for _ in range(batch)
            ]
            sampling = vllm.SamplingParams(
                max_tokens=decode_tokens,
                min_tokens=decode_tokens,
                ignore_eos=True,
                temperature=0.0,
                detokenize=False,
            )
            llm.generate(prompts, sampling, use_tqdm=False)  # fills the prefix cache
            llm.start_profile()
            llm.generate(prompts, sampling, use_tqdm=False)
            llm.stop_profile()
            _set_aside(Path(traces), batch)
    finally:
        # The engine core is a child process; this one would wait for its end at its own.
        llm.llm_engine.engine_core.shutdown()
