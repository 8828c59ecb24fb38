"""Reading the headers of real, tiny safetensors files."""

import json
import struct
from pathlib import Path

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model.component import Component
from rayserve_par.serving.model_store.headers import INDEX, read_tensors
from rayserve_par.serving.model_store.locate import locate_model

CONFIG = {
    "model_type": "llama",
    "num_hidden_layers": 1,
    "hidden_size": 8,
    "intermediate_size": 16,
    "num_attention_heads": 2,
    "vocab_size": 32,
    "max_position_embeddings": 64,
}
LAYER = "model.layers.0."
SHAPES = {
    "model.embed_tokens.weight": (32, 8),
    "model.norm.weight": (8,),
    f"{LAYER}input_layernorm.weight": (8,),
    f"{LAYER}post_attention_layernorm.weight": (8,),
    **{f"{LAYER}self_attn.{n}_proj.weight": (8, 8) for n in "qkvo"},
    **{f"{LAYER}mlp.{n}_proj.weight": (16, 8) for n in ("gate", "up", "down")},
}


def write(file: Path, shapes: dict[str, tuple[int, ...]], dtype: str = "BF16") -> None:
    """A safetensors file by its format: length, header, values."""
    size = {"BF16": 2, "F8_E4M3": 1}[dtype]
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes.items():
        count = size
        for length in shape:
            count *= length
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, start + count]}
        start += count
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + bytes(start))


def test_a_folder_with_one_file(tmp_path: Path) -> None:
    write(tmp_path / "model.safetensors", SHAPES)
    write(tmp_path / "consolidated.safetensors", {"tok_embeddings.weight": (32, 8)})
    assert {tensor.name: tensor.shape for tensor in read_tensors(tmp_path)} == SHAPES


def test_an_index_says_which_files_count(tmp_path: Path) -> None:
    names = list(SHAPES)
    parts = {"a.safetensors": names[:3], "b.safetensors": names[3:]}
    for file, held in parts.items():
        write(tmp_path / file, {name: SHAPES[name] for name in held})
    write(tmp_path / "other.safetensors", {"x": (1,)})
    weight_map = {name: file for file, held in parts.items() for name in held}
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}), encoding="utf-8")
    assert len(read_tensors(tmp_path)) == len(SHAPES)
    (tmp_path / "b.safetensors").unlink()
    assert read_tensors(tmp_path) == ()


def test_a_folder_without_weights(tmp_path: Path) -> None:
    assert read_tensors(tmp_path) == ()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "no safetensors file"),
        (b"version https://git-lfs.github.com/spec/v1", "no safetensors file"),
        (struct.pack("<Q", 4) + b"{{{{", "broken safetensors header"),
    ],
)
def test_what_is_no_safetensors_file_is_refused(
    tmp_path: Path, content: bytes, message: str
) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(RefusedError, match=message):
        read_tensors(tmp_path)


def test_a_broken_index_is_refused(tmp_path: Path) -> None:
    (tmp_path / INDEX).write_text("{}", encoding="utf-8")
    with pytest.raises(RefusedError, match="no safetensors index"):
        read_tensors(tmp_path)


def test_the_files_of_a_folder_win_over_its_config(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    from_config = locate_model(str(tmp_path)).spec
    write(tmp_path / "model.safetensors", SHAPES, "F8_E4M3")
    spec = locate_model(str(tmp_path)).spec
    assert not from_config.tied_embeddings
    assert spec.tied_embeddings
    part = Component.DENSE_MLP
    halved = from_config.weight_bytes_by_component[part] / 2
    assert spec.weight_bytes_by_component[part] == halved


def test_quantisation_beside_the_config_counts(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    quant = {"producer": {}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}}
    (tmp_path / "hf_quant_config.json").write_text(json.dumps(quant), encoding="utf-8")
    spec = locate_model(str(tmp_path)).spec
    assert (spec.weight_format.name, spec.kv_cache_bits) == ("fp8", 8.0)
