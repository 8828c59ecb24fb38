"""What one pass over all layers makes a rank do: bytes, operations, messages.

A pass takes `new_tokens` tokens of each of `sequences` requests of one DP rank (decode: 1 token;
prefill: a whole prompt); their last token attends to `context_tokens`. Sums run over all layers,
so over all PP stages one after the other.

    dense_bytes       every matrix that all tokens use, and the head
    expert_bytes      the experts that are hit: E_rank x (1 - (1 - k/E)^T) of them per layer, with
                      T = tokens of all DP ranks, k of E experts per token, routing uniform
    *_peak_seconds    operations / the GPU's peak at the format's compute width
    kv_bytes          KV cache read, decode only, and a sparse index's keys over all the context;
                      state_bytes: recurrent state read and written
    message_bytes     tokens of the DP rank x hidden x 2: what an all-reduce or a hop carries
    exchange_bytes    T x hidden x 2: the tokens of all DP ranks, which every rank gathers before
                      the experts and reduces after them (vLLM's all-gather and reduce-scatter)

Left out: traffic of norms and rotary tables, imbalance between experts.
"""

from dataclasses import dataclass

from rayserve_par.planning.performance.rank_load import LayerLoad, RankLoad

_ACTIVATION_BYTES = 2


@dataclass(frozen=True, slots=True)
class PassWork:
    """The work of one rank in one pass. Bytes, seconds at peak, and counts."""

    dense_bytes: float
    dense_peak_seconds: float
    expert_bytes: float
    expert_peak_seconds: float
    kv_bytes: float
    attention_peak_seconds: float
    state_bytes: float
    kernels: float
    all_reduces: float
    all_reduce_ranks: float
    expert_exchanges: float
    expert_ranks: float
    message_bytes: float
    exchange_bytes: float
    stage_hops: float
    sequences: float
    tokens: float
    experts_emulated: float
    expert_groups: float


def _hit(layer: LayerLoad, tokens: float) -> float:
    """Experts of one layer on this rank that at least one of `tokens` tokens uses."""
    missed: float = (1.0 - layer.expert_hit_share) ** tokens
    return layer.experts_on_rank * (1.0 - missed)


def pass_work(
    load: RankLoad, *, sequences: float, new_tokens: float, context_tokens: float
) -> PassWork:
    """The work of a pass. `sequences` are those of one DP rank."""
    layout = load.layout
    decode = new_tokens <= 1
    tokens = sequences * new_tokens
    all_tokens = tokens * layout.dp
    dense_bytes, expert_bytes = load.head_bytes, 0.0
    dense_peak = sequences * load.head_peak_seconds
    expert_peak = kv_bytes = pairs_flops = state_bytes = 0.0
    for layer in load.layers:
        dense_bytes += layer.count * layer.dense_bytes
        dense_peak += layer.count * tokens * layer.dense_peak_seconds
        if layer.expert_bytes:
            expert_bytes += layer.count * _hit(layer, all_tokens) * layer.expert_bytes
            each = all_tokens * layer.expert_hit_share * layer.experts_on_rank
            expert_peak += layer.count * each * layer.expert_peak_seconds
        mixer = layer.mixer
        if mixer is None:
            continue
        tp = layout.tp
        attended = mixer.attended_tokens(context_tokens)
        if decode:
            values = mixer.kv_values_per_token_per_rank(tp)
            kv_bytes += layer.count * sequences * attended * values * load.kv_bytes_per_value
            index = mixer.index_bytes_per_token_per_rank(tp)
            kv_bytes += layer.count * sequences * context_tokens * index
            mean_attended, mean_context = attended, context_tokens
        else:
            # The n-th token attends to the first n: half of a full prompt, all of a window.
            mean_context = context_tokens / 2
            mean_attended = min(attended, mean_context)
        per_pair = mixer.flops_per_pair_per_rank(tp, decode=decode)
        pairs_flops += layer.count * tokens * mean_attended * per_pair
        per_key = mixer.index_flops_per_pair_per_rank(tp)
        pairs_flops += layer.count * tokens * mean_context * per_key
        pairs_flops += layer.count * tokens * mixer.flops_per_token_per_rank(tp)
        state = mixer.state_bytes_per_request_per_rank(tp)
        state_bytes += layer.count * 2 * sequences * state
    all_reduces = 2.0 * load.num_layers if layout.tp > 1 else 0.0
    exchanges = 0.0
    if layout.dp > 1 and load.num_moe_layers:
        exchanges = 2.0 * load.num_moe_layers
        if layout.tp > 1:
            all_reduces -= load.num_moe_layers
    return PassWork(
        dense_bytes=dense_bytes,
        dense_peak_seconds=dense_peak,
        expert_bytes=expert_bytes,
        expert_peak_seconds=expert_peak,
        kv_bytes=kv_bytes,
        attention_peak_seconds=pairs_flops / load.bf16_peak_flops,
        state_bytes=state_bytes,
        kernels=float(sum(layer.count * layer.kernels for layer in load.layers)),
        all_reduces=all_reduces,
        all_reduce_ranks=float(layout.tp),
        expert_exchanges=exchanges,
        expert_ranks=float(layout.tp * layout.dp),
        message_bytes=tokens * load.hidden_size * _ACTIVATION_BYTES,
        exchange_bytes=all_tokens * load.hidden_size * _ACTIVATION_BYTES,
        stage_hops=float(layout.pp - 1),
        sequences=float(sequences),
        tokens=float(tokens),
        experts_emulated=float(any(layer.experts_emulated for layer in load.layers)),
        expert_groups=float(layout.ep),
    )
