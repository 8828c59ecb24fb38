"""Seconds of one step of an engine that mixes decodes with prefill chunks, from the planner.

    decode step    D(b, c)       = Predictor.decode_time(b, c).total
    prefill step   P(p)          = Predictor.prefill_seconds(p), of a prompt alone
    mixed step     M(p, s, b, c) = roofline(W(p + b) + p x a(s + p / 2) + b x h(c), kernels)
                                   + t_step + b x t_sequence

with b decodes at mean context c, and p prompt tokens of a DP rank that follow s tokens of their
prompts. W is the time of matrices and links for as many tokens, a and h the attention of one
prompt token at that mean context and of one decode. With b = 0 and s = 0 a mixed step is P(p).

Every W is computed once and kept; a and h are read off a grid of 64 tokens, between whose points
they are straight: exact but for windows that end within a cell. With PP a step is that of b / pp
sequences, and a prompt keeps the first stage for 1 / pp of its time (`latency_share`).
Left out: KV that a later chunk of a prompt reads anew (small beside its products), prefix hits.
"""

from __future__ import annotations

from rayserve_par.planning.performance.predict import Predictor
from rayserve_par.planning.performance.step import pass_time, roofline
from rayserve_par.planning.performance.work import pass_work

_CELL_TOKENS = 64


class StepTimes:
    """Step times of one layout; what has been computed is kept."""

    def __init__(self, predictor: Predictor, slower: float = 1.0) -> None:
        """`slower` multiplies every step: engines that are not as predicted."""
        self._slower = slower
        self._predictor = predictor
        self._load, self._speed = predictor.load, predictor.speed
        self._constants = predictor.constants
        self._engine = predictor.constants.engine(predictor.engine)
        layout = predictor.load.layout
        self._dp, self._pp = layout.dp, layout.pp
        self._rest: dict[int, tuple[float, float]] = {}
        self._decode_attention: list[float] = []
        self._prefill_attention: list[float] = []
        kernels = sum(layer.count * layer.kernels for layer in self._load.layers)
        self._least_prefill = kernels * self._constants.prefill_kernel_seconds
        self._power = self._constants.roofline_power
        self._host = self._engine.step_seconds
        self._host_each = self._engine.sequence_seconds

    @property
    def dp(self) -> int:
        """DP ranks, among which an instance's requests are spread evenly."""
        return self._dp

    @property
    def first_token_seconds(self) -> float:
        """HTTP, tokenization and detokenization before the first token."""
        return self._constants.first_token_seconds

    @property
    def latency_share(self) -> float:
        """Share of a prefill that delays its own first token but no other request."""
        return 1 - 1 / self._pp

    def decode(self, batch: float, context_tokens: float) -> float:
        """One step of `batch` decodes of the instance at this mean context."""
        matrices, overhead = self._matrices(batch)
        attention = self._each(batch) * self._decode_at(context_tokens)
        return (matrices + overhead + attention) * self._slower

    def mixed(
        self, prompt_tokens: int, before_tokens: float, batch: int, context_tokens: float
    ) -> float:
        """One step with `prompt_tokens` on the busiest DP rank beside `batch` decodes.

        `before_tokens` is the mean of what of their prompts was prefilled before, by tokens.
        """
        each = self._each(batch) if batch else 0.0
        work = (
            self._prefill_matrices(prompt_tokens + int(each + 0.5))
            + prompt_tokens * self._prefill_at(before_tokens + prompt_tokens / 2)
            + each * self._decode_at(context_tokens)
        )
        seconds = roofline(work, self._least_prefill, self._power) / self._pp
        host = self._host + each * self._host_each if batch else 0.0
        return (seconds + host) * self._slower

    def _each(self, batch: float) -> float:
        return max(1.0, batch / self._dp / self._pp)

    def _matrices(self, batch: float) -> tuple[float, float]:
        key = int(batch)
        found = self._rest.get(key)
        if found is None:
            work = pass_work(
                self._load, sequences=self._each(key), new_tokens=1, context_tokens=0.0
            )
            time = pass_time(work, self._speed, self._constants, self._engine)
            found = (time.work - time.attention, time.launch + time.host)
            self._rest[key] = found
        return found

    def _prefill_matrices(self, tokens: int) -> float:
        key = -tokens  # decodes are kept under their positive number
        found = self._rest.get(key)
        if found is None:
            work = pass_work(self._load, sequences=1, new_tokens=tokens, context_tokens=0.0)
            time = pass_time(work, self._speed, self._constants, self._engine)
            found = (time.work - time.attention, 0.0)
            self._rest[key] = found
        return found[0]

    def _decode_at(self, context_tokens: float) -> float:
        """Attention of one decode at this context."""
        return self._between(self._decode_attention, context_tokens, decode=True)

    def _prefill_at(self, mean_context: float) -> float:
        """Attention of one prompt token that attends to this many on average."""
        return self._between(self._prefill_attention, mean_context, decode=False)

    def _between(self, grid: list[float], context_tokens: float, *, decode: bool) -> float:
        cell = int(context_tokens) // _CELL_TOKENS
        while len(grid) < cell + 2:
            grid.append(self._attention(len(grid) * _CELL_TOKENS, decode=decode))
        low = grid[cell]
        return low + (grid[cell + 1] - low) * (context_tokens / _CELL_TOKENS - cell)

    def _attention(self, context_tokens: float, *, decode: bool) -> float:
        tokens = 1.0 if decode else 2.0
        # A prefill's mean context is half of what it is given.
        given = context_tokens if decode else 2 * context_tokens
        work = pass_work(self._load, sequences=1, new_tokens=tokens, context_tokens=given)
        time = pass_time(work, self._speed, self._constants, self._engine)
        return time.attention / tokens
