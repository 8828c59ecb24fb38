"""Which layers each PP stage holds, as vLLM splits them.

    layers per stage = floor(num_layers / pp); the r left over go one each to the stages before
    the last, from the back: stages pp-2, pp-3, ..., pp-1-r

so the last stage, which also has the head, is never longer than the others.
Source: `get_pp_indices` in vllm/distributed/utils.py (without VLLM_PP_LAYER_PARTITION).
"""

from rayserve_par.errors import RefusedError


def stage_ranges(num_layers: int, pp: int) -> tuple[range, ...]:
    """The layers of every stage. Raises RefusedError where a stage would be empty."""
    if not 1 <= pp <= num_layers:
        raise RefusedError(
            f"{num_layers} layers cannot make {pp} PP stages: each needs at least one layer. "
            f"Use PP 1 to {num_layers}."
        )
    counts = [num_layers // pp] * pp
    for back in range(2, num_layers % pp + 2):
        counts[-back] += 1
    ranges, start = [], 0
    for count in counts:
        ranges.append(range(start, start + count))
        start += count
    return tuple(ranges)
