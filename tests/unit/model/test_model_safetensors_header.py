"""Headers of real safetensors files: parts by name, bytes, and the spec that agrees with them."""

from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model import ModelSpec, model_spec_from_config
from rayserve_par.model.component import Component
from rayserve_par.model.safetensors_header import (
    Tensor,
    corrected_spec,
    loaded_bytes_by_component,
    stored_bytes,
    tensors_from_header,
)

C = Component
LLAMA: dict[str, Any] = {
    "model_type": "llama",
    "num_hidden_layers": 2,
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 100,
    "max_position_embeddings": 512,
}


def tensor(name: str, *shape: int, dtype: str = "BF16") -> Tensor:
    return Tensor(name, dtype, shape)


def llama_tensors(dtype: str = "BF16", *, head: bool = True) -> list[Tensor]:
    found = [tensor("model.embed_tokens.weight", 100, 64), tensor("model.norm.weight", 64)]
    if head:
        found.append(tensor("lm_head.weight", 100, 64))
    for n in range(2):
        layer = f"model.layers.{n}."
        shapes = {"q": (64, 64), "k": (32, 64), "v": (32, 64), "o": (64, 64)}
        for name, shape in shapes.items():
            found.append(tensor(f"{layer}self_attn.{name}_proj.weight", *shape, dtype=dtype))
        for name, shape in {"gate": (128, 64), "up": (128, 64), "down": (64, 128)}.items():
            found.append(tensor(f"{layer}mlp.{name}_proj.weight", *shape, dtype=dtype))
        found.append(tensor(f"{layer}input_layernorm.weight", 64))
        found.append(tensor(f"{layer}post_attention_layernorm.weight", 64))
    return found


def llama(**changes: Any) -> ModelSpec:
    return model_spec_from_config({**LLAMA, **changes}, "m")


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("model.embed_tokens.weight", C.EMBEDDING),
        ("transformer.word_embeddings.weight", C.EMBEDDING),
        ("backbone.embeddings.weight", C.EMBEDDING),
        ("lm_head.weight", C.HEAD),
        ("head.weight", C.HEAD),
        ("model.norm.weight", C.NORMS),
        ("model.layers.0.input_layernorm.weight", C.NORMS),
        ("model.layers.0.self_attn.q_norm.weight", C.NORMS),
        ("model.layers.0.self_attn.q_proj.weight_scale_inv", C.ATTENTION),
        ("model.layers.0.self_attn.indexer.wk.weight", C.ATTENTION),
        ("model.layers.0.linear_attn.in_proj_qkvz.weight", C.RECURRENT),
        ("backbone.layers.0.mixer.A_log", C.RECURRENT),
        ("model.layers.0.mlp.gate_proj.weight", C.DENSE_MLP),
        ("model.layers.0.feed_forward.w1.weight", C.DENSE_MLP),
        ("model.layers.0.mlp.gate.weight", C.ROUTER),
        ("model.layers.0.mlp.router.bias", C.ROUTER),
        ("model.layers.0.mlp.gate.e_score_correction_bias", C.ROUTER),
        ("model.layers.0.mlp.experts.7.down_proj.weight_packed", C.ROUTED_EXPERTS),
        ("model.layers.0.mlp.experts.gate_up_proj_blocks", C.ROUTED_EXPERTS),
        ("model.layers.0.block_sparse_moe.experts.1.w1.weight", C.ROUTED_EXPERTS),
        ("model.layers.0.mlp.shared_experts.up_proj.weight", C.SHARED_EXPERTS),
        ("model.layers.0.mlp.shared_expert_gate.weight", C.SHARED_EXPERTS),
        ("model.visual.blocks.0.attn.qkv.weight", C.VISION),
        ("vision_tower.encoder.layers.9.mlp.fc1.weight", C.VISION),
        ("something.else", None),
    ],
)
def test_parts_by_name(name: str, part: Component | None) -> None:
    assert tensor(name, 1).part is part


@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("BF16", 16), ("F8_E4M3", 8), ("F8_E8M0", 8), ("U8", 8), ("I32", 32), ("F4", 4), ("F64", 64)],
)
def test_dtypes(dtype: str, bits: int) -> None:
    assert tensor("x", 8, dtype=dtype).stored_bytes == bits


def test_an_unknown_dtype_is_refused() -> None:
    with pytest.raises(RefusedError, match="dtype 'X9' is not known"):
        stored_bytes([tensor("x", 1, dtype="X9")])


def test_metadata_is_no_tensor() -> None:
    header = {
        "__metadata__": {"format": "pt"},
        "x.weight": {"dtype": "F16", "shape": [2, 3], "data_offsets": [0, 12]},
    }
    assert tensors_from_header(header) == (Tensor("x.weight", "F16", (2, 3)),)


def test_files_that_agree_change_nothing() -> None:
    assert corrected_spec(llama(), llama_tensors()) == llama()


def test_float32_files_are_loaded_at_16_bits() -> None:
    tensors = [Tensor(t.name, "F32", t.shape) for t in llama_tensors() if len(t.shape) > 1]
    assert corrected_spec(llama(), tensors) == llama()
    whole = model_spec_from_config(LLAMA, "m", dtype="float32")
    assert corrected_spec(whole, tensors) == whole


def test_files_in_fp8_beside_a_config_that_does_not_say_so() -> None:
    tensors = llama_tensors("F8_E4M3")
    spec = corrected_spec(llama(), tensors)
    assert spec.weight_bytes == stored_bytes(tensors)
    assert spec.parameters == llama().parameters
    attention = C.ATTENTION
    before = llama().weight_bytes_by_component[attention]
    assert spec.weight_bytes_by_component[attention] == before / 2


def test_biases_that_only_the_files_have_are_counted() -> None:
    extra = [tensor(f"model.layers.{n}.self_attn.q_proj.bias", 64) for n in range(2)]
    spec = corrected_spec(llama(), [*llama_tensors(), *extra])
    assert spec.weight_bytes == pytest.approx(llama().weight_bytes + 2 * 64 * 2)


def test_a_head_that_the_files_have_not_is_tied() -> None:
    spec = corrected_spec(llama(), llama_tensors(head=False))
    assert spec.tied_embeddings
    assert spec == llama(tie_word_embeddings=True)


def test_a_copy_of_a_tied_head_is_skipped() -> None:
    tied = llama(tie_word_embeddings=True)
    assert corrected_spec(tied, llama_tensors()) == tied


def test_mtp_layers_are_not_counted() -> None:
    extra = [
        tensor("model.layers.2.eh_proj.weight", 64, 128),
        tensor("mtp.layers.0.mlp.up_proj.weight", 64, 128),
        tensor("model.mtp.fc.weight", 64, 128),
    ]
    assert corrected_spec(llama(), [*llama_tensors(), *extra]) == llama()
    tower = tensor("vision_tower.layers.9.mlp.fc1.weight", 64, 64)
    assert loaded_bytes_by_component([*extra, tower], 2) == {C.VISION: 64 * 64 * 2}


def test_a_tower_that_only_the_files_have_is_added() -> None:
    spec = corrected_spec(llama(), [*llama_tensors(), tensor("visual.fc.weight", 50, 50)])
    assert spec.weight_bytes_by_component[C.VISION] == 5000
    assert spec.weight_bytes == llama().weight_bytes + 5000


def test_names_that_are_not_recognised_are_counted_all_the_same() -> None:
    tensors = [*llama_tensors(), tensor("model.layers.0.novelty.weight", 64, 64)]
    spec = corrected_spec(llama(), tensors)
    assert spec.weight_bytes == pytest.approx(stored_bytes(tensors))


def test_files_without_tensors_are_refused() -> None:
    with pytest.raises(RefusedError, match="hold no tensor"):
        corrected_spec(llama(), [])
