"""The towers of Gemma 4, whole on every rank: vLLM runs transformers' own.

    vision   gated blocks with four norms each, a table of positions, one projection
    audio    (small models) conformer layers of two feed-forward parts of 4 h, attention of 5 h^2,
             a convolution part of 3 h^2, 9 norms; two strided convolutions before, two projections
             after; h = hidden_size

Left out: the bounds of clipped linear layers (four numbers each).
Source: transformers modeling_gemma4.py, vllm/model_executor/models/gemma4_mm.py.
"""

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3
_KERNEL = 9
_STRIDES = 4


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projection; `config` is the outer config."""
    vision = config["vision_config"]
    hidden, head = integer(vision, name, "hidden_size"), integer(vision, name, "head_dim")
    heads = integer(vision, name, "num_attention_heads")
    if integer(vision, name, "num_key_value_heads") != heads:
        raise RefusedError(f"{name}: a Gemma 4 tower with fewer KV heads than heads is not known.")
    blocks = VisionBlocks(
        count=integer(vision, name, "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "intermediate_size"),
        norm_values=4 * hidden + 2 * head,
        attention_size=heads * head,
        attention_bias=False,
        mlp_bias=False,
        gated=True,
        is_cut=False,
    )
    patch = integer(vision, name, "patch_size") ** 2 * _CHANNELS
    positions = 2 * integer(vision, name, "position_embedding_size")
    out = integer(config["text_config"], name, "hidden_size")
    return (
        *linear("vision_tower.patch_embedder.input_proj", hidden, patch, Split.WHOLE),
        *values("vision_tower.position_embedding_table", positions * hidden),
        *blocks.matrices("vision_tower.encoder.layers"),
        *(values("vision_tower.standardize", 2 * hidden) if vision.get("standardize") else ()),
        *linear("embed_vision.embedding_projection", out, hidden, Split.WHOLE),
        *(_audio(config["audio_config"], name, out) if config.get("audio_config") else ()),
    )


def _audio(audio: Config, name: str, text: int) -> tuple[Matrix, ...]:
    hidden, layers = integer(audio, name, "hidden_size"), integer(audio, name, "num_hidden_layers")
    head = hidden // integer(audio, name, "num_attention_heads")
    kernel, out = integer(audio, name, "conv_kernel_size"), integer(audio, name, "output_proj_dims")
    first, second = audio["subsampling_conv_channels"]
    prefix, whole = "audio_tower.layers", Split.WHOLE
    small = head + kernel * hidden + 9 * hidden
    return (
        *values("audio_tower.subsample_norms", first + second),
        *linear("audio_tower.subsample_conv_0", first, _KERNEL, whole),
        *linear("audio_tower.subsample_conv_1", second, _KERNEL * first, whole),
        *linear("audio_tower.input_proj", hidden, first // _STRIDES * second, whole),
        *linear(f"{prefix}.feed_forward_1", 4 * hidden, hidden, whole, 2 * layers),
        *linear(f"{prefix}.feed_forward_2", hidden, 4 * hidden, whole, 2 * layers),
        *linear(f"{prefix}.self_attn", hidden, hidden, whole, 5 * layers),
        *linear(f"{prefix}.lconv1d", hidden, hidden, whole, 3 * layers),
        *values(f"{prefix}.vectors", small, layers),
        *linear("audio_tower.output_proj", out, hidden, whole, bias=True),
        *linear("embed_audio.embedding_projection", text, out, whole),
    )
