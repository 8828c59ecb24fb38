"""What every mixer with a fixed state per request, and no KV cache, answers alike."""


class StatefulMixer:
    """No KV cache, no window, no sparse index, no (query, key) pairs: the state is all there is."""

    __slots__ = ()

    @property
    def num_kv_heads(self) -> int:
        """No KV cache."""
        return 0

    @property
    def window_tokens(self) -> int | None:
        """No window."""
        return None

    def kv_values_per_token_per_rank(self, _tp: int, /) -> float:
        """No KV cache."""
        return 0.0

    def index_bytes_per_token_per_rank(self, _tp: int, /) -> float:
        """No index."""
        return 0.0

    def attended_tokens(self, _context_tokens: float, /) -> float:
        """None: the state stands for the context."""
        return 0.0

    def flops_per_pair_per_rank(self, _tp: int, /, *, decode: bool) -> float:  # noqa: ARG002
        """No pairs."""
        return 0.0

    def index_flops_per_pair_per_rank(self, _tp: int, /) -> float:
        """No index."""
        return 0.0
