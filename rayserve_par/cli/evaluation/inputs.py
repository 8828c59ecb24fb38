"""What a prediction may see of a row, and nothing else.

Each input is made from the fields named in its `KEYS`; measured ones are not among them, so they
cannot reach a prediction. Of the two tables `tpot_s_by_batch_at_1024_prompt` and
`prefill_s_by_prompt_tokens` only the keys are taken: which batches and prompts to predict.
Of a recommended layout everything is left out that tells it: tp, pp, ep, dp, gpus_used, note.

    GPUs of an instance = tp x pp x attention_dp; where a row counts the DP ranks inside its TP
    (tp = GPUs), tp is divided by them.
    ep = moe_ep, else tp x dp / moe_tp where moe_tp > 1, else 1
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

from rayserve_par.errors import RefusedError
from rayserve_par.planning import Layout, Target

DECODE_TABLE = "tpot_s_by_batch_at_1024_prompt"
PREFILL_TABLE = "prefill_s_by_prompt_tokens"
# Predicted where a row names none, as memory rows do.
USUAL_BATCHES = (1, 8, 32, 128)
USUAL_PROMPTS = (512, 2048, 7168)

_TARGETS = {"latency": Target.LATENCY, "throughput": Target.THROUGHPUT}
_ENGINES = {"tensorrt-llm": "trtllm", "trt-llm": "trtllm", "tensorrt_llm": "trtllm"}


def _is_number(found: object) -> bool:
    if isinstance(found, bool) or not isinstance(found, int | float):
        return False
    return isfinite(found) and found >= 0


class Given:
    """The allowed fields of a row, checked as they are asked for; null counts as absent."""

    def __init__(self, fields: Mapping[str, Any], keys: frozenset[str]) -> None:
        self._given = {key: fields[key] for key in keys if fields.get(key) is not None}

    def text(self, key: str, default: str | None = None) -> str:
        """A string; RefusedError where it is none, or absent without a default."""
        found = self._given.get(key, default)
        if found is None:
            raise RefusedError(f"the row lacks {key}")
        if not isinstance(found, str):
            raise RefusedError(f"{key} is {found!r}, not text")
        return found

    def number(self, key: str, default: float | None = None) -> float:
        """A number of at least 0."""
        found = self._given.get(key, default)
        if found is None:
            raise RefusedError(f"the row lacks {key}")
        if not _is_number(found):
            raise RefusedError(f"{key} is {found!r}, not a number of at least 0")
        return float(found)

    def count(self, key: str, default: int | None = None) -> int:
        """A whole number of at least 1."""
        found = self.number(key, default)
        if found < 1 or found != int(found):
            raise RefusedError(f"{key} is {found:g}, not a whole number of at least 1")
        return int(found)

    def optional_count(self, key: str) -> int | None:
        """As `count`; None where absent or 0."""
        return self.count(key) if self.number(key, 0) else None

    def flag_or_count(self, key: str, *, if_true: int) -> int:
        """A count, or true for `if_true`; false, 0 and absent are 1."""
        found = self._given.get(key, False)
        if isinstance(found, bool):
            return if_true if found else 1
        return self.optional_count(key) or 1

    def keys_of(self, key: str, default: tuple[int, ...]) -> tuple[int, ...]:
        """The keys of a table, as numbers; its values are never looked at."""
        table = self._given.get(key)
        if not table:
            return default
        if not isinstance(table, Mapping):
            raise RefusedError(f"{key} is no table")
        wrong = [name for name in table if not re.fullmatch(r"[1-9]\d*", str(name))]
        if wrong:
            raise RefusedError(f"{key} has keys that are no counts: {wrong}")
        return tuple(int(name) for name in table)


def engine_of(text: str) -> str:
    """The engine's name: "vLLM 0.11 V1" -> "vllm"."""
    name = (text.lower().split() or ["vllm"])[0]
    return _ENGINES.get(name, name)


def version_of(text: str) -> tuple[int, int] | None:
    """Major and minor: "vllm 0.25.0" -> (0, 25); None where there is none."""
    found = re.search(r"(\d+)\.(\d+)", text)
    return (int(found.group(1)), int(found.group(2))) if found else None


@dataclass(frozen=True, slots=True)
class ServedInput:
    """A serving benchmark, before it was run."""

    KEYS = frozenset(
        (
            "model",
            "precision",
            "gpu",
            "engine",
            "isl",
            "osl",
            "concurrency",
            "gpus",
            "tp",
            "pp",
            "dp",
            "attention_dp",
            "moe_tp",
            "moe_ep",
        )
    )

    model: str
    precision: str
    gpu: str
    engine: str
    isl: float
    osl: float
    concurrency: float
    layout: Layout

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "ServedInput":
        """The input of a row; RefusedError where a field is missing or makes no sense."""
        given = Given(fields, cls.KEYS)
        return cls(
            model=given.text("model"),
            precision=given.text("precision", ""),
            gpu=given.text("gpu"),
            engine=engine_of(given.text("engine", "vllm")),
            isl=given.number("isl"),
            osl=given.number("osl"),
            concurrency=given.number("concurrency"),
            layout=_served_layout(given),
        )


def _served_layout(given: Given) -> Layout:
    tp, pp = given.count("tp"), given.count("pp", 1)
    dp = given.optional_count("attention_dp") or given.optional_count("dp") or 1
    gpus = given.count("gpus", tp * pp * dp)
    if tp * pp * dp != gpus:
        if tp * pp != gpus or tp % dp:
            raise RefusedError(f"TP {tp} x PP {pp} x DP {dp} = {tp * pp * dp} GPUs, not {gpus}")
        tp //= dp
    return Layout(tp=tp, pp=pp, dp=dp, ep=_expert_ranks(given, tp * dp))


def _expert_ranks(given: Given, ranks: int) -> int:
    stated, moe_tp = given.optional_count("moe_ep"), given.optional_count("moe_tp") or 1
    if stated is not None:
        return stated
    # A split of 1 without a number of expert ranks is how rows say "no experts".
    return ranks // moe_tp if moe_tp > 1 and ranks % moe_tp == 0 else 1


@dataclass(frozen=True, slots=True)
class EngineInput:
    """An engine before it was started, and the batches and prompts to predict."""

    KEYS = frozenset(
        (
            "model",
            "precision",
            "gpu",
            "gpu_total_gib",
            "engine",
            "gpu_memory_utilization",
            "util",
            "max_model_len",
            "max_num_batched_tokens",
            "max_num_seqs",
            "tp",
            "pp",
            "dp",
            "ep",
        )
    ) | {DECODE_TABLE, PREFILL_TABLE}

    model: str
    precision: str
    gpu: str
    gpu_total_gib: float | None
    engine: str
    version: tuple[int, int] | None
    gpu_memory_utilization: float
    max_model_len: int | None
    max_num_batched_tokens: int | None
    max_num_seqs: int | None
    layout: Layout
    batches: tuple[int, ...]
    prompts: tuple[int, ...]

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "EngineInput":
        """The input of a row; RefusedError where a field is missing or makes no sense."""
        given = Given(fields, cls.KEYS)
        engine = given.text("engine", "vllm")
        tp, pp, dp = given.count("tp", 1), given.count("pp", 1), given.count("dp", 1)
        asked = given.keys_of(DECODE_TABLE, ())
        longest = given.optional_count("max_model_len")
        usual = tuple(n for n in USUAL_PROMPTS if n <= (longest or n))
        return cls(
            model=given.text("model"),
            precision=given.text("precision", ""),
            gpu=given.text("gpu"),
            # Not gpu_total_mib: nvidia-smi counts what a process is never offered (H200: 0.7 GiB
            # more), so the catalogue is nearer.
            gpu_total_gib=given.number("gpu_total_gib", 0) or None,
            engine=engine_of(engine),
            version=version_of(engine),
            gpu_memory_utilization=given.number(
                "gpu_memory_utilization", given.number("util", 0.9)
            ),
            max_model_len=longest,
            max_num_batched_tokens=given.optional_count("max_num_batched_tokens"),
            max_num_seqs=given.optional_count("max_num_seqs") or max(asked, default=None),
            layout=Layout(tp=tp, pp=pp, dp=dp, ep=given.flag_or_count("ep", if_true=tp * dp)),
            batches=asked or USUAL_BATCHES,
            prompts=given.keys_of(PREFILL_TABLE, usual),
        )


@dataclass(frozen=True, slots=True)
class LayoutInput:
    """A model on nodes, before a layout was recommended."""

    KEYS = frozenset(
        ("model", "precision", "hardware", "gpu_mem_gib", "gpus_per_node", "nodes", "goal")
    )

    model: str
    precision: str
    hardware: str
    gpu_memory_gib: float | None
    gpus_per_node: int | None
    nodes: int
    target: Target

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "LayoutInput":
        """The input of a row; RefusedError where a field is missing or makes no sense."""
        given = Given(fields, cls.KEYS)
        return cls(
            model=given.text("model"),
            precision=given.text("precision", ""),
            hardware=given.text("hardware"),
            gpu_memory_gib=given.number("gpu_mem_gib", 0) or None,
            gpus_per_node=given.optional_count("gpus_per_node"),
            nodes=given.count("nodes", 1),
            target=_TARGETS.get(given.text("goal", ""), Target.BALANCED),
        )
