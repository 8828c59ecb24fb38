"""One short run of the engine with random weights: prefill by prompt length, TPOT by batch.

It runs in a child process, whose end gives the GPUs back. Weights are random but of the model's
shape and format, so times and memory are real and the text is not.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rayserve_par.control.calibration.children import Work, run_ranks
from rayserve_par.serving.engine_environment import LOGICAL_GPU_ARGUMENTS, engine_environment

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rayserve_par.serving.model_store.locate import Model

_LIMIT_SECONDS = 1800.0


@dataclass(frozen=True, slots=True)
class EngineMeasurement:
    """What is run: tokens of the prompts, batches, and the length of the decoding that is timed."""

    prefill_tokens: tuple[int, ...] = (512, 2048, 7168)
    batches: tuple[int, ...] = (1, 8, 32, 128)
    prompt_tokens: int = 1024
    decode_tokens: int = 64
    max_model_len: int = 8192


GPU_RUN = EngineMeasurement()
CPU_RUN = EngineMeasurement(
    prefill_tokens=(128, 512), batches=(1, 8), prompt_tokens=128, decode_tokens=16
)


@contextmanager
def loadable(name: str) -> Iterator[Model]:
    """The model `name`, its `load_path` a folder made of the config where that is shipped.

    With random weights a config is all that is needed, so a model whose config is shipped needs
    neither a network nor a cache.
    """
    from rayserve_par.model.known import known_config
    from rayserve_par.serving.model_store.locate import locate_model

    config, model = known_config(name), locate_model(name)
    if config is None:
        yield model
        return
    with tempfile.TemporaryDirectory(prefix="rayserve-par-config-") as folder:
        kept = {key: value for key, value in config.items() if not key.startswith("_")}
        (Path(folder) / "config.json").write_text(json.dumps(kept), encoding="utf-8")
        yield replace(model, load_path=folder)


def measure_engine(
    model: Model,
    tp: int,
    on_gpu: bool,
    measurement: EngineMeasurement,
    arguments: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Run the engine in a child process; what `offline.time_engine` finds.

    `arguments` are further ones of the engine, such as `enable_expert_parallel`.

    Raises:
        MeasurementFailedError: the engine did not start or did not finish.
    """
    engine = engine_arguments(on_gpu, arguments or {})
    limit = min(measurement.max_model_len, model.spec.max_context_tokens)
    what = asdict(replace(measurement, max_model_len=limit))
    result: dict[str, Any] = run_engine(
        "The engine run", _run, (model.load_path, tp, engine, what), on_gpu
    )
    return result


def engine_arguments(on_gpu: bool, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """`arguments` of the engine, with those that a logical GPU needs beside them."""
    return {**({} if on_gpu else LOGICAL_GPU_ARGUMENTS), **arguments}


def run_engine(name: str, work: Work, arguments: tuple[Any, ...], on_gpu: bool) -> Any:
    """Run `work(rank, folder, *arguments)`, which starts an engine, in a child process.

    Raises:
        MeasurementFailedError: it did not start or did not finish; the message names it `name`.
    """
    return run_ranks(
        name,
        work,
        1,
        arguments,
        limit_seconds=_LIMIT_SECONDS,
        environment=engine_environment(logical_gpus=not on_gpu),
    )


def _run(
    _rank: int, _folder: str, model: str, tp: int, engine: dict[str, Any], what: dict[str, Any]
) -> dict[str, Any]:
    from rayserve_par.serving.vllm_bridge.offline import time_engine

    return time_engine(model, tp, engine=engine, **what)
