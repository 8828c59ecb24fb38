"""MoonViT-3D, the tower of Kimi K2.5 and Kimi K3, with its projector.

    K2.5   LayerNorm, biases everywhere, norm before the projector
    K3     RMSNorm, no biases, heads wider than the hidden size (`qkv_hidden_size`), norm after the
           projector ("patchmergerv2")

The projector is whole on every rank. Fields without their vLLM default (`attn_bias`) say so.
Source: vllm/model_executor/models/kimi_k25_vit.py, vllm/transformers_utils/configs/kimi_k3.py.
"""

from rayserve_par.model.families.fields import integer
from rayserve_par.model.matrix import Matrix, Split
from rayserve_par.model.vision.tower import Config, VisionBlocks, linear, values

_CHANNELS = 3


def matrices(config: Config, name: str) -> tuple[Matrix, ...]:
    """All weights of the tower and its projector; `config` is the outer config."""
    vision = config["vision_config"]
    hidden = integer(vision, name, "vt_hidden_size", "hidden_size")
    norm = (1 if vision.get("norm_type") == "rmsnorm" else 2) * hidden
    blocks = VisionBlocks(
        count=integer(vision, name, "vt_num_hidden_layers", "num_hidden_layers"),
        hidden_size=hidden,
        intermediate_size=integer(vision, name, "vt_intermediate_size", "intermediate_size"),
        norm_values=2 * norm,
        attention_size=vision.get("qkv_hidden_size") or hidden,
        attention_bias=bool(vision.get("attn_bias", True)),
        mlp_bias=bool(vision.get("linear_bias", True)),
    )
    patch = integer(vision, name, "patch_size") ** 2 * _CHANNELS
    patch_bias = bool(vision.get("patch_embed_proj_bias", True))
    positions = integer(vision, name, "init_pos_emb_height")
    positions *= integer(vision, name, "init_pos_emb_width")
    return (
        *linear("vision_tower.patch_embed", hidden, patch, Split.WHOLE, bias=patch_bias),
        *values("vision_tower.pos_emb", positions * hidden),
        *blocks.matrices("vision_tower.blocks"),
        *values("vision_tower.final_layernorm", norm),
        *_projector(vision, name, hidden),
    )


def _projector(vision: Config, name: str, hidden: int) -> tuple[Matrix, ...]:
    height, width = vision.get("merge_kernel_size") or (2, 2)
    merged, out = height * width * hidden, integer(vision, name, "text_hidden_size")
    is_second = vision.get("mm_projector_type") == "patchmergerv2"
    norm = out if is_second else 2 * hidden
    whole = Split.WHOLE
    return (
        *linear("mm_projector.linear_1", merged, merged, whole, bias=not is_second),
        *linear("mm_projector.linear_2", out, merged, whole, bias=not is_second),
        *values("mm_projector.norm", norm),
    )
