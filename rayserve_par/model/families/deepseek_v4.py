"""DeepSeek-V4: compressed attention, hyper-connections, experts chosen by hash in early layers.

Every layer has experts. `compress_ratios` gives each layer's ratio, MTP layers last. The residual
stream is `hc_mult` hidden vectors wide; before and after each part a small float32 matrix mixes
them: 2 x (2 + hc_mult) hc_mult x hc_mult hidden_size values a layer.
MTP layers have two square projections of embedding and hidden state.
Left out: the hash tables of the first layers (int32, vocabulary x experts per token, 3 MB each) and
the mixing of the streams after the last layer (hc_mult^2 x hidden_size values).
`deepseek_ref` is the same architecture under the reference code's name.
Source: vllm/models/deepseek_v4/nvidia/{model,mtp}.py.
"""

from dataclasses import replace

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.model.families.family import (
    Config,
    LayerShape,
    Reader,
    Skeleton,
    layer_norms,
)
from rayserve_par.model.families.fields import integer, num_layers
from rayserve_par.model.ffn import MoeMlp
from rayserve_par.model.matrix import Matrix, Split, vector
from rayserve_par.model.mixers.compressed_attention import CompressedAttention
from rayserve_par.model.weight_format import FP32


def read(config: Config, name: str) -> Skeleton:
    """All layers of a DeepSeek-V4."""
    if config.get("vision_n_layers"):
        raise RefusedError(
            f"{name}: a DeepSeek-V4 with a vision tower (vision_n_layers = "
            f"{config['vision_n_layers']}) is not known. Give --weights-gib and the KV facts."
        )
    count = num_layers(config, name)
    mtp = config.get("num_nextn_predict_layers") or 0
    ratios = [int(ratio) for ratio in config.get("compress_ratios") or ()]
    if len(ratios) < count:
        raise RefusedError(
            f"{name}: compress_ratios has {len(ratios)} entries for {count} layers. Check "
            "config.json."
        )
    ratios += [0] * mtp
    hidden = integer(config, name, "hidden_size")
    experts = _experts(config, name)
    others = (*layer_norms(hidden), *_hyper_connections(hidden, integer(config, name, "hc_mult")))
    layers = [LayerShape(_attention(config, name, ratio), experts, others) for ratio in ratios]
    joined = Matrix("inputs_proj", Component.ATTENTION, hidden, hidden, Split.WHOLE, copies=2)
    mtp_layers = [
        replace(layer, others=(*others, *layer_norms(hidden, 3), joined))
        for layer in layers[count : count + mtp]
    ]
    return Skeleton(tuple(layers[:count]), tuple(mtp_layers), "layers", 8.0)


def _attention(config: Config, name: str, ratio: int) -> CompressedAttention:
    return CompressedAttention(
        num_heads=integer(config, name, "num_attention_heads"),
        head_dim=integer(config, name, "head_dim"),
        rope_dim=integer(config, name, "qk_rope_head_dim"),
        query_rank=integer(config, name, "q_lora_rank"),
        output_rank=integer(config, name, "o_lora_rank"),
        output_groups=integer(config, name, "o_groups"),
        window=integer(config, name, "sliding_window"),
        ratio=ratio if ratio > 1 else 0,
        index_heads=integer(config, name, "index_n_heads"),
        index_head_dim=integer(config, name, "index_head_dim"),
        index_topk=integer(config, name, "index_topk"),
    )


def _experts(config: Config, name: str) -> MoeMlp:
    size = integer(config, name, "moe_intermediate_size")
    return MoeMlp(
        num_experts=integer(config, name, "n_routed_experts"),
        experts_per_token=integer(config, name, "num_experts_per_tok"),
        expert_intermediate_size=size,
        shared_intermediate_size=size * (config.get("n_shared_experts") or 0),
        router_bias=True,
        name="ffn",
    )


def _hyper_connections(hidden: int, streams: int) -> tuple[Matrix, ...]:
    mixes = (2 + streams) * streams
    values = mixes * streams * hidden + mixes + 3
    part = vector("hyper_connections", Component.NORMS, values, Split.WHOLE, copies=2)
    return (replace(part, format=FP32),)


READERS: dict[str, Reader] = {"deepseek_v4": read, "deepseek_ref": read}
