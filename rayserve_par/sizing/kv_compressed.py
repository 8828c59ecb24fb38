"""The KV cache of compressed attention (DeepSeek-V4), as vLLM packs it into one pool.

    full      every layer of ratio r: 256 / r vectors of `packed_bytes`, and the index's keys
    window    every layer: blocks of 64 tokens
    states    tokens that wait to be compressed, per layer of ratio r: 4 bytes x 2 x overlap x dim
              each, for the KV and (ratio 4) the index; blocks of 4 tokens (ratio 4), 8 (ratio 128);
              kept for the last overlap x r tokens
    page      rounded up to 576 bytes
    block     what the full group takes; windows and states are split into as many groups as makes
              each no larger

While prompts are read, windows and states hold every token in flight: with 8192 batched tokens
the states alone take some 6000 blocks of a request's admission (6 GiB for DeepSeek-V4-Flash).
Against vLLM 0.22 (github.com/vllm-project/vllm/issues/44376: 6.66 GiB for one request of 30,000
tokens, 5.44 GiB for 13,528) this gives 5% less.
Source: vllm/models/deepseek_v4/{attention,compressor}.py, `_get_packed_kv_cache_groups` in
vllm/v1/core/kv_cache_utils.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import ceil

from rayserve_par.model.mixers.compressed_attention import CompressedAttention

_BLOCK_TOKENS, _WINDOW_BLOCK_TOKENS = 256, 64
_PAGE_MULTIPLE = 576
_STATE_VALUE_BYTES = 4
_INDEX_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class PackedGroups:
    """`groups` groups with one table each; `window_tokens` None where every token is kept."""

    groups: int
    block_tokens: int
    window_tokens: int | None
    bytes_by_stage: tuple[float, ...]


def packed_groups(
    layers: dict[int, CompressedAttention], stage_of: Callable[[int], int], stages: int
) -> tuple[PackedGroups, ...]:
    """The groups of layers by number, the largest of which gives the size of a block."""
    full = _sums(((n, _full_page(m)) for n, m in layers.items()), stage_of, stages)
    anchor = sum(full)
    found = [PackedGroups(1, _BLOCK_TOKENS, None, tuple(full))]
    first = next(iter(layers.values()))
    kinds: list[tuple[int, int, dict[int, int]]] = [
        (
            _WINDOW_BLOCK_TOKENS,
            first.window,
            {n: _page(_WINDOW_BLOCK_TOKENS * m.packed_bytes) for n, m in layers.items()},
        )
    ]
    for ratio in sorted({m.ratio for m in layers.values() if m.ratio}):
        same = {n: m for n, m in layers.items() if m.ratio == ratio}
        some = next(iter(same.values()))
        block = 4 if some.has_index else 8
        pages = {n: _state_page(m, block) for n, m in same.items()}
        kinds.append((block, _overlap(some) * ratio, pages))
    for block, window, by_layer in kinds:
        count = max(1, ceil(sum(by_layer.values()) / anchor)) if anchor else 1
        sizes = _sums(iter(by_layer.items()), stage_of, stages)
        found.append(PackedGroups(count, block, window, tuple(size / count for size in sizes)))
    return tuple(found)


def _sums(
    pages: Iterator[tuple[int, int]], stage_of: Callable[[int], int], stages: int
) -> list[float]:
    totals = [0.0] * stages
    for number, page in pages:
        totals[stage_of(number)] += page
    return totals


def _page(size: float) -> int:
    return ceil(size / _PAGE_MULTIPLE) * _PAGE_MULTIPLE


def _overlap(mixer: CompressedAttention) -> int:
    return 2 if mixer.has_index else 1


def _full_page(mixer: CompressedAttention) -> int:
    """Compressed vectors and index keys of one block; none in a layer that has a window alone."""
    if not mixer.ratio:
        return 0
    states = _BLOCK_TOKENS // mixer.ratio
    index = states * (mixer.index_head_dim + _INDEX_SCALE_BYTES) if mixer.has_index else 0
    return _page(states * mixer.packed_bytes) + _page(index)


def _state_page(mixer: CompressedAttention, block: int) -> int:
    each = 2 * _overlap(mixer) * _STATE_VALUE_BYTES * block
    index = each * mixer.index_head_dim if mixer.has_index else 0
    return _page(each * mixer.head_dim) + _page(index)
