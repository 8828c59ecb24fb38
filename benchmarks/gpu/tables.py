"""The results as Markdown tables. Times are "measured / predicted / predicted with the profile"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.gpu.ledger import Record
from benchmarks.gpu.machine import Machine
from benchmarks.gpu.parts import PARTS
from benchmarks.gpu.prediction import (
    PREFILL,
    TPOT,
    Compared,
    EngineResult,
    mean_errors,
    unseen,
)
from rayserve_par.hardware.gpu import GIB


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table whose first column is text and whose others are numbers."""
    rule = ["---"] + ["---:"] * (len(header) - 1)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def parts_table(records: Mapping[str, Record], machine: Machine) -> str:
    """Every part there is, and how it ended on this machine or why it was not run."""
    rows = []
    for part in PARTS:
        record = records.get(part.name)
        reason = part.reason_to_skip(machine) or "not run"
        state = f"{record.status}: {record.reason}".rstrip(": ") if record else reason
        rows.append((f"`{part.name}`", state, f"{record.seconds:.0f}" if record else "-"))
    return markdown(("part", "state", "seconds"), rows)


def _error(value: float, measured: float) -> str:
    error = round(value / measured - 1, 3)
    return f"{error:+.1%}" if error else "0.0%"


def memory_table(results: Sequence[EngineResult]) -> str:
    """Weights of a rank and KV tokens, measured and predicted."""
    rows = []
    for one in results:
        if one.memory is None or one.predicted_memory is None:
            continue
        ours, theirs = one.predicted_memory, one.memory
        rows.append(
            (
                one.label,
                f"{theirs.weight_bytes / GIB:.3f}",
                f"{ours.weight_bytes / GIB:.3f}",
                _error(ours.weight_bytes, theirs.weight_bytes),
                f"{theirs.kv_tokens:,}",
                f"{ours.kv_tokens:,}",
                _error(ours.kv_tokens, theirs.kv_tokens),
                "-" if one.start_seconds is None else f"{one.start_seconds:.0f}",
            )
        )
    header = ("engine", "weights a rank, GiB", "predicted", "error")
    return markdown((*header, "KV tokens", "predicted", "error", "start, s"), rows)


def _cell(time: Compared) -> str:
    found = [time.measured, time.before, *([] if time.after is None else [time.after])]
    return " / ".join(f"{1e3 * seconds:.2f}" for seconds in found)


def times_table(results: Sequence[EngineResult]) -> str:
    """Prefill by prompt and TPOT by batch in ms: measured / before / after calibration."""
    sizes = sorted({(time.what, time.size) for one in results for time in one.times}, key=_order)
    rows = []
    for one in results:
        by_size = {(time.what, time.size): _cell(time) for time in one.times}
        name = f"{one.label} (the profile's own)" if one.in_profile else one.label
        rows.append((name, *(by_size.get(size, "-") for size in sizes)))
    units = {PREFILL: "prefill of {:,}, ms", TPOT: "TPOT at {}, ms"}
    return markdown(("engine", *(units[what].format(size) for what, size in sizes)), rows)


def _order(key: tuple[str, int]) -> tuple[bool, int]:
    return key[0] == TPOT, key[1]


def error_table(results: Sequence[EngineResult]) -> str:
    """Mean absolute errors without and with the profile, by engine and over all unseen ones."""
    groups = [(one.label, [one]) for one in results]
    if len(unseen(results)) < len(results):
        groups.append(("**all that the profile has not seen**", unseen(results)))
    rows = []
    for name, members in groups:
        cells = [name]
        for what in (TPOT, PREFILL):
            count, before, after = mean_errors(members, what)
            cells += [str(count), f"{before:.1%}", "-" if after is None else f"{after:.1%}"]
        rows.append(cells)
    header = ["mean absolute error"]
    for what in ("TPOT", "prefill"):
        header += [f"{what}: figures", "without the profile", "with it"]
    return markdown(header, rows)


def _place(rank: Mapping[str, int]) -> str:
    """A rank and its GPU: instance 1, DP rank 2, rank 0: GPU 6; the first go without saying."""
    names = (("instance", "instance"), ("DP rank", "dp_rank"))
    before = [f"{name} {rank[key]}, " for name, key in names if rank[key]]
    return f"{''.join(before)}rank {rank['rank']}: GPU {rank['gpu']}"


def product_table(records: Sequence[Record]) -> str:
    """Starts in seconds, and who has which GPU."""
    rows = []
    for record in records:
        found = record.result
        first, second = found["bare_start_seconds"]
        ranks = ", ".join(map(_place, found["ranks"]))
        # An engine that is an actor has its GPUs set after its start, where nobody sees it.
        seen = [one["cuda_visible_devices"] for one in found["engines"]]
        visible = {devices for devices in seen if devices is not None} or {"-"}
        strangers = sum(not one["is_the_servers"] for one in found["gpu_processes"])
        rows.append(
            (
                f"`{record.part}` ({found['model']})",
                f"{first:.1f}",
                f"{second:.1f}",
                f"{found['replica_start_seconds']:.1f}",
                f"{found['until_the_front_answers_seconds']:.1f}",
                ranks,
                ", ".join(sorted(visible)),
                str(strangers),
                "yes" if found["chat"]["text"] == found["bare_chat"]["text"] else "no",
            )
        )
    header = ("part", "bare start, s", "bare, second start", "our replica", "cluster and all")
    more = ("ranks by Ray", "CUDA_VISIBLE_DEVICES", "other processes on the GPU")
    return markdown((*header, *more, "same answer to a chat"), rows)


def recovery_table(records: Sequence[Record]) -> str:
    """When all served again, and what memory did."""
    rows = []
    for record in records:
        found, memory = record.result, record.result.get("memory")
        answers = ", ".join(f"{n} x {what}" for what, n in found["answers_meanwhile"].items())
        told = ["-"] * 4
        if memory is not None:
            told = [
                f"{memory['serving_mib']:,}",
                f"{memory['lowest_mib']:,}",
                "never" if memory["freed_seconds"] is None else f"{memory['freed_seconds']:.2f}",
                "-" if memory["rise_seconds"] is None else f"{memory['rise_seconds']:.1f}",
            ]
        seconds = f"{found['served_again_seconds']:.1f}"
        rows.append((f"`{record.part}` ({found['model']})", seconds, *told, answers))
    header = ("part", "served again, s", "MiB before", "MiB at the lowest")
    more = ("all freed after, s", "next engine's first memory, s", "answers until then")
    return markdown((*header, *more), rows)


def tokens_table(records: Sequence[Record]) -> str:
    """How many greedy tokens agree with the bare server's."""
    rows = [
        (
            f"`{record.part}` ({record.result['model']}, {record.result['engine']['dtype']})",
            str(record.result["tokens"]),
            str(record.result["equal"]),
        )
        for record in records
    ]
    return markdown(("part", "tokens of bare vLLM", "the same from ours"), rows)
