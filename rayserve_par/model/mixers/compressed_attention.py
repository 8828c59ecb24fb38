"""DeepSeek-V4's attention: a window of exact tokens beside compressed states of older ones.

One KV vector (key and value in one) serves all heads. A layer of ratio r keeps one vector for
every r tokens (4: with an index that chooses topk of them; 128: all are read), one of ratio 0 only
the window. vLLM packs a vector as FP8 values, bf16 rotary values and scales:

    packed bytes P       = (head_dim - rope) + 2 rope + (head_dim - rope) / 64 + 1     584 of 512
    KV values per token  = P / r                            of 8 bits, whatever the checkpoint says
    state per request    = window x P + compressor states   (r > 0)
    compressor states    = overlap r x 2 overlap dim x 4 bytes, for the KV (dim = head_dim) and, at
                           r = 4, for the index (dim = index_head_dim); overlap = 2 at r = 4, else 1
    index per token      = (index_head_dim + 4) / r bytes
    attended tokens      = r x (min(context, window) + min(context / r, topk))
    FLOPs per pair       = heads / tp x 4 head_dim / r
    index FLOPs per pair = index_heads x 2 index_head_dim / r      (every rank scores all heads)

Attended tokens are so counted that times KV values and times FLOPs they give what a step reads and
computes; with the window they may exceed the context.
Left out: rounding of pages to 576 bytes (0.2%); bf16 and per-tensor FP8 caches (FlashInfer).
Source: DeepSeek-V4 report; vllm/models/deepseek_v4/{attention,compressor}.py,
vllm/v1/attention/backends/mla/sparse_swa.py.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from math import inf

from rayserve_par.model.component import Component
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.weight_format import FP32

_PART = Component.ATTENTION
_WHOLE = Split.WHOLE
_OVERLAPPING_RATIO = 4
_SCALED_VALUES = 64
_STATE_BYTES = 4
_INDEX_SCALE_BYTES = 4


@dataclass(frozen=True, slots=True)
class CompressedAttention:
    """One layer. `ratio` is how many tokens share one compressed vector, 0 without any."""

    num_heads: int
    head_dim: int
    rope_dim: int
    query_rank: int
    output_rank: int
    output_groups: int
    window: int
    ratio: int
    index_heads: int
    index_head_dim: int
    index_topk: int
    name: str = "attn"

    @property
    def kind(self) -> str:
        """Compressed attention; its window alone."""
        return f"compressed_{self.ratio}" if self.ratio else "window_mqa"

    @property
    def num_kv_heads(self) -> int:
        """One vector serves every head."""
        return 1

    @property
    def window_tokens(self) -> int | None:
        """The window where it is all that a layer keeps."""
        return None if self.ratio else self.window

    @property
    def has_index(self) -> bool:
        """Whether an index chooses among the compressed states."""
        return self.ratio == _OVERLAPPING_RATIO

    @property
    def packed_bytes(self) -> int:
        """Bytes of one stored vector."""
        exact = self.head_dim - self.rope_dim
        return exact + 2 * self.rope_dim + exact // _SCALED_VALUES + 1

    def matrices(self, hidden_size: int) -> tuple[Matrix, ...]:
        """All weights, at base precision."""
        found = list(self._projections(hidden_size))
        if self.ratio:
            found += self._compressor(f"{self.name}.compressor", self.head_dim, hidden_size)
        if self.has_index:
            found += self._index(f"{self.name}.indexer", hidden_size)
        return tuple(found)

    def _projections(self, hidden: int) -> Iterator[Matrix]:
        name, width, rank = self.name, self.num_heads * self.head_dim, self.query_rank
        outputs = self.output_groups * self.output_rank
        yield Matrix(f"{name}.wq_a", _PART, rank, hidden, _WHOLE)
        yield Matrix(f"{name}.wkv", _PART, self.head_dim, hidden, _WHOLE)
        yield Matrix(f"{name}.wq_b", _PART, width, rank, Split.COLUMNS)
        yield Matrix(f"{name}.wo_a", _PART, outputs, width // self.output_groups, Split.COLUMNS)
        yield Matrix(f"{name}.wo_b", _PART, hidden, outputs, Split.ROWS)
        yield vector(f"{name}.attn_sink", _PART, self.num_heads, Split.COLUMNS)
        yield vector(f"{name}.q_norm", Component.NORMS, rank, _WHOLE)
        yield vector(f"{name}.kv_norm", Component.NORMS, self.head_dim, _WHOLE)

    def _compressor(self, name: str, dim: int, hidden: int) -> Iterator[Matrix]:
        rows = self._overlap * dim
        yield from _unquantised(f"{name}.wkv", rows, hidden)
        yield from _unquantised(f"{name}.wgate", rows, hidden)
        ape = vector(f"{name}.ape", _PART, rows, _WHOLE, copies=self.ratio)
        yield replace(ape, format=FP32)
        yield vector(f"{name}.norm", Component.NORMS, dim, _WHOLE)

    def _index(self, name: str, hidden: int) -> Iterator[Matrix]:
        heads, dim = self.index_heads, self.index_head_dim
        yield Matrix(f"{name}.wq_b", _PART, heads * dim, self.query_rank, _WHOLE)
        yield from _unquantised(f"{name}.weights_proj", heads, hidden)
        yield from self._compressor(f"{name}.compressor", dim, hidden)

    @property
    def _overlap(self) -> int:
        return 2 if self.ratio == _OVERLAPPING_RATIO else 1

    def kv_values_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """Packed bytes of one token, every TP rank holds them whole."""
        return self.packed_bytes / (self.ratio or 1)

    def index_bytes_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """The index's share of one token; every TP rank holds it whole."""
        if not self.has_index:
            return 0.0
        return (self.index_head_dim + _INDEX_SCALE_BYTES) / self.ratio

    def state_bytes_per_request_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """The window and the tokens that wait to be compressed; the window alone is KV."""
        if not self.ratio:
            return 0.0
        dims = self.head_dim + (self.index_head_dim if self.has_index else 0)
        waiting = self._overlap * self.ratio * 2 * self._overlap * dims * _STATE_BYTES
        return self.window * self.packed_bytes + waiting

    def attended_tokens(self, context_tokens: float) -> float:
        """What a decode step reads, in tokens' worth of KV."""
        exact = min(context_tokens, self.window)
        if not self.ratio:
            return exact
        chosen = min(context_tokens / self.ratio, self.index_topk if self.has_index else inf)
        return self.ratio * (exact + chosen)

    def flops_per_pair_per_rank(self, tp: int, *, decode: bool) -> float:  # noqa: ARG002
        """Scores and weighted sum of all heads of a rank."""
        return self.num_heads / tp * 4 * self.head_dim / (self.ratio or 1)

    def index_flops_per_pair_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """The index's scores; every TP rank computes them all."""
        return self.index_heads * 2 * self.index_head_dim / self.ratio if self.has_index else 0.0

    def flops_per_token_per_rank(self, tp: int) -> float:  # noqa: ARG002
        """Nothing beside matrices and pairs."""
        return 0.0


def _unquantised(name: str, rows: int, columns: int) -> Iterator[Matrix]:
    """A matrix that stays bf16 in every checkpoint, as vectors do: so it is given as such."""
    yield vector(name, _PART, rows, _WHOLE, copies=columns)
