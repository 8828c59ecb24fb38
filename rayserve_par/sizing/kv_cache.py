"""The KV cache as vLLM lays it out: one pool of blocks that all groups of layers draw from.

    page        bytes of one block of one layer = block tokens x KV bytes per token, or a state
    one kind    all layers in one group: block bytes = sum of their pages
    several     equal pages: a smaller page gets more tokens where that divides, else is padded;
                where layers keep a state, the attention's block is first made so long that its
                page is at least the state, then the state is padded to it
                group size g = layers of the rarest kind (of the commonest, if that is below 1.5
                times as many), groups of a kind = ceil(layers / g), block bytes = g x page
    blocks of a request of c tokens in a group
                full    ceil(c / block tokens)
                window  ceil(min(window - 1 + tokens in flight, c) / block tokens) + 1
                state   1, or 2 with prefix caching, and 1 per speculative token
    blocks      floor(KV bytes / block bytes): the least over the PP stages, each with the layers
                of every group that it holds
    KV tokens   floor(blocks / blocks of a request of max_model_len x max_model_len);
                before 0.21 blocks // groups x smallest block

A block is 16 tokens, 64 with MLA (128 beside states). Compressed attention: kv_compressed.py.
Sparse MLA with an FP8 cache packs a token as FP8 values, a scale per 128 and bf16 rotary values.
Source: vllm/v1/core/kv_cache_utils.py (`get_kv_cache_groups`, `get_kv_cache_capacity`),
vllm/v1/kv_cache_interface.py, `_align_hybrid_block_size` in vllm/platforms/interface.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import ceil, floor

from rayserve_par.model.layer import Layer
from rayserve_par.model.mixers.attention import MlaAttention
from rayserve_par.model.mixers.compressed_attention import CompressedAttention
from rayserve_par.model.mixers.mixer import Mixer, kv_bytes_per_token_per_rank
from rayserve_par.model.spec import ModelSpec
from rayserve_par.sizing.engine_options import EngineOptions
from rayserve_par.sizing.kv_compressed import packed_groups

BLOCK_TOKENS = 16
_MLA_BLOCK_TOKENS = 64
_MLA_HYBRID_BLOCK_TOKENS = 128
_SCALED_VALUES = 128


@dataclass(frozen=True, slots=True)
class KvGroup:
    """`groups` alike groups of layers, each with its own table of blocks.

    A group keeps every token (no window, no state), a window, or `state_blocks` per request.
    """

    groups: int
    block_tokens: int
    window_tokens: int | None = None
    state_blocks: int = 0

    def blocks(self, tokens: float, in_flight_tokens: float) -> int:
        """Blocks of one request of `tokens` tokens in all of these groups."""
        if self.state_blocks:
            return self.groups * self.state_blocks
        if self.window_tokens is None:
            return self.groups * ceil(tokens / self.block_tokens)
        kept = min(self.window_tokens - 1 + in_flight_tokens, tokens)
        return self.groups * (ceil(kept / self.block_tokens) + 1)


@dataclass(frozen=True, slots=True)
class KvLayout:
    """Groups of a whole model, and what a block takes on a rank of each PP stage."""

    groups: tuple[KvGroup, ...]
    block_bytes_by_stage: tuple[float, ...]

    def bytes_per_token(self, stage: int) -> float:
        """What one more token of a long request takes, on average over a block."""
        per_block = self.block_bytes_by_stage[stage]
        keeping = [one for one in self.groups if not one.state_blocks and not one.window_tokens]
        return sum(one.groups * per_block / one.block_tokens for one in keeping)


@dataclass(frozen=True, slots=True)
class _Kind:
    """What layers store alike: bytes per token (and a window), or a state."""

    token_bytes: float = 0.0
    state_bytes: float = 0.0
    window_tokens: int | None = None


def kv_layout(
    model: ModelSpec, tp: int, stages: tuple[range, ...], options: EngineOptions
) -> KvLayout:
    """The groups that vLLM makes of a model's layers, MTP layers included where they speculate."""
    layers = model.layers + (model.mtp_layers if options.speculative_tokens else ())
    ends = [stage.stop for stage in stages]
    ends[-1] = len(layers)
    packed = {
        number: layer.mixer
        for number, layer in enumerate(layers)
        if isinstance(layer.mixer, CompressedAttention)
    }
    if packed:
        return _packed(packed, ends)
    kinds = _layers_by_kind(layers, tp, options.cache_bits(model))
    block = _block_tokens(model, kinds)
    attention = [kind for kind in kinds if kind.token_bytes]
    windows = {kind.window_tokens for kind in attention}
    if len(windows) <= 1 and len(attention) in (0, len(kinds)):
        return _one_kind(kinds, ends, block, options)
    return _several_kinds(kinds, ends, block, options)


def _layers_by_kind(layers: tuple[Layer, ...], tp: int, bits: float) -> dict[_Kind, list[int]]:
    """Numbers of the layers of each kind, in order of first appearance."""
    known: dict[int, _Kind] = {}
    kinds: dict[_Kind, list[int]] = {}
    for number, layer in enumerate(layers):
        mixer = layer.mixer
        if mixer is None:
            continue
        if id(mixer) not in known:
            known[id(mixer)] = _Kind(
                token_bytes=_token_bytes(mixer, tp, bits),
                state_bytes=mixer.state_bytes_per_request_per_rank(tp),
                window_tokens=mixer.window_tokens,
            )
        kind = known[id(mixer)]
        if kind.token_bytes or kind.state_bytes:
            kinds.setdefault(kind, []).append(number)
    return kinds


def _token_bytes(mixer: Mixer, tp: int, bits: float) -> float:
    if isinstance(mixer, MlaAttention) and mixer.index and bits == 8:
        scales = mixer.kv_lora_rank / _SCALED_VALUES * 4
        packed = mixer.kv_lora_rank + scales + 2 * mixer.qk_rope_head_dim
        return packed + mixer.index_bytes_per_token_per_rank(tp)
    return kv_bytes_per_token_per_rank(mixer, tp, bits)


def _block_tokens(model: ModelSpec, kinds: dict[_Kind, list[int]]) -> int:
    """Tokens of the attention's block; long enough for the largest state."""
    has_mla = any(mixer.kind == "mla" for mixer in model.mixers)
    block = _MLA_BLOCK_TOKENS if has_mla else BLOCK_TOKENS
    state = max((kind.state_bytes for kind in kinds), default=0.0)
    token = max((kind.token_bytes for kind in kinds), default=0.0)
    if not state or not token:
        return block
    step = _MLA_HYBRID_BLOCK_TOKENS if has_mla else block
    return step * ceil(state / (step * token))


def _stage_of(number: int, ends: list[int]) -> int:
    return next(stage for stage, end in enumerate(ends) if number < end)


def _group(kind: _Kind, groups: int, block_tokens: int, options: EngineOptions) -> KvGroup:
    if kind.state_bytes:
        kept = 2 if options.caches_hybrid_prefixes else 1
        return KvGroup(groups, block_tokens, state_blocks=kept + options.speculative_tokens)
    return KvGroup(groups, block_tokens, kind.window_tokens)


def _one_kind(
    kinds: dict[_Kind, list[int]], ends: list[int], block: int, options: EngineOptions
) -> KvLayout:
    """All layers in one group, whatever their heads."""
    by_stage = [0.0] * len(ends)
    for kind, numbers in kinds.items():
        page = kind.state_bytes or kind.token_bytes * block
        for number in numbers:
            by_stage[_stage_of(number, ends)] += page
    groups = tuple(_group(kind, 1, block, options) for kind in list(kinds)[:1])
    return KvLayout(groups, tuple(by_stage))


def _several_kinds(
    kinds: dict[_Kind, list[int]], ends: list[int], block: int, options: EngineOptions
) -> KvLayout:
    """Groups of g layers, every block as large as g pages."""
    page = max(kind.state_bytes or kind.token_bytes * block for kind in kinds)
    counts = [len(numbers) for numbers in kinds.values()]
    size = min(counts)
    if max(counts) < 1.5 * size and options.counts_tokens_by_request:
        size = max(counts)
    groups, most = [], [0] * len(ends)
    for kind, numbers in kinds.items():
        count = ceil(len(numbers) / size)
        own = kind.token_bytes * block
        tokens = block * int(page // own) if own and page % own == 0 else block
        groups.append(_group(kind, count, tokens, options))
        for first in range(count):
            held = [0] * len(ends)
            for number in numbers[first::count]:
                held[_stage_of(number, ends)] += 1
            most = [max(pair) for pair in zip(most, held, strict=True)]
    return KvLayout(tuple(groups), tuple(layers * page for layers in most))


def _packed(layers: dict[int, CompressedAttention], ends: list[int]) -> KvLayout:
    """Pages of several sizes side by side in blocks as large as the largest group."""
    found = packed_groups(layers, lambda number: _stage_of(number, ends), len(ends))
    groups = tuple(KvGroup(one.groups, one.block_tokens, one.window_tokens) for one in found)
    return KvLayout(groups, tuple(map(max, zip(*(g.bytes_by_stage for g in found), strict=True))))


@dataclass(frozen=True, slots=True)
class KvPool:
    """The blocks of a rank of one PP stage, if that stage decides."""

    groups: tuple[KvGroup, ...]
    block_bytes: float
    kv_bytes: float
    max_model_len: int
    in_flight_tokens: int
    by_request: bool

    @property
    def blocks(self) -> int:
        """Whole blocks in the memory for KV cache."""
        if not self.block_bytes:
            return 0
        return max(0, floor(self.kv_bytes / self.block_bytes))

    def blocks_of_request(self, tokens: float) -> int:
        """Blocks that the engine sets aside for one request of `tokens` tokens."""
        return self._blocks(tokens, self.in_flight_tokens)

    def _blocks(self, tokens: float, in_flight: float) -> int:
        return sum(group.blocks(tokens, in_flight) for group in self.groups)

    @property
    def tokens(self) -> int:
        """The engine's "KV cache size" in tokens."""
        if not self.groups:
            return 0
        if self.by_request:
            each = self.blocks_of_request(self.max_model_len)
            return self.blocks * self.max_model_len // each
        smallest = min(group.block_tokens for group in self.groups)
        return self.blocks // sum(group.groups for group in self.groups) * smallest

    def fits(self, tokens: int) -> bool:
        """Whether one request can be held beside the null block that the engine keeps."""
        return self.blocks > self.blocks_of_request(tokens)

    def request_bytes(self, tokens: int) -> float:
        """Blocks of one request of `tokens` tokens, and the null block."""
        return (self.blocks_of_request(tokens) + 1) * self.block_bytes

    def requests_at(self, context_tokens: float) -> float:
        """How many requests of this length are held at once, while they decode."""
        each = self._blocks(context_tokens, 1)
        return max(0, self.blocks - 1) / each if each else 0.0

    def formulas(self) -> Iterator[str]:
        """How the blocks of a request come about, one line per kind of group."""
        for one in self.groups:
            length, flight = self.max_model_len, self.in_flight_tokens
            found = one.blocks(length, flight)
            many = f"{one.groups} group{'s' if one.groups > 1 else ''}"
            if one.state_blocks:
                yield f"{many} of states: {one.groups} x {one.state_blocks} = {found} blocks"
            elif one.window_tokens is None:
                yield (
                    f"{many} of all tokens: {one.groups} x ceil({length:,} / "
                    f"{one.block_tokens:,}) = {found:,} blocks"
                )
            else:
                yield (
                    f"{many} of windows: {one.groups} x (ceil(min({one.window_tokens:,} - 1 + "
                    f"{flight:,} in flight, {length:,}) / {one.block_tokens:,}) + 1) = {found:,} "
                    "blocks"
                )
