"""DeciLM: blocks of different attention and MLP, either of which may be absent."""

from typing import Any

import pytest
from shared_configs import mixer_kinds, parameters, published_config, skeleton

from rayserve_par.errors import RefusedError
from rayserve_par.model.families.nemotron_nas import read
from rayserve_par.model.ffn import DenseMlp


def block(*, group: int | None = 8, mult: float | None = 5.25, **more: Any) -> dict[str, Any]:
    attention = {"n_heads_in_group": group, "no_op": group is None}
    return {"attention": attention, "ffn": {"ffn_mult": mult, "no_op": mult is None}} | more


def config_of(*blocks: dict[str, Any]) -> dict[str, Any]:
    return {
        "hidden_size": 8192,
        "num_attention_heads": 64,
        "num_hidden_layers": len(blocks),
        "block_configs": list(blocks),
    }


def test_published() -> None:
    """49,867,145,216 parameters in the hub's safetensors metadata of that model."""
    found = skeleton(published_config("nvidia--Llama-3_3-Nemotron-Super-49B-v1"))
    assert parameters(found, 8192) + 2 * 128_256 * 8192 + 8192 == 49_867_145_216
    kinds = mixer_kinds(found)
    assert (kinds.count("gqa"), kinds.count(None)) == (49, 31)


@pytest.mark.parametrize(
    ("mult", "size"), [(5.25, 28_672), (2.625, 14_336), (1.0, 5632), (0.5, 2816), (1.3125, 7168)]
)
def test_intermediate_size(mult: float, size: int) -> None:
    ffn = read(config_of(block(mult=mult)), "a model").layers[0].ffn
    assert ffn == DenseMlp(size)


def test_absent_parts_have_no_norm() -> None:
    both, mlp_only, none = read(
        config_of(block(), block(group=None), block(group=None, mult=None)), "a model"
    ).layers
    assert [m.copies for m in both.others] == [2]
    assert [m.copies for m in mlp_only.others] == [1]
    assert none.matrices(8192) == ()


def test_kv_heads_by_block() -> None:
    mixers = [layer.mixer for layer in read(config_of(block(), block(group=16)), "m").layers]
    assert [mixer.num_kv_heads for mixer in mixers if mixer] == [8, 4]


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({**config_of(block()), "num_hidden_layers": 2}, "1 entries for 2 layers"),
        (config_of(block(ffn={"replace_with_linear": True})), "ffn is replaced by a linear layer"),
    ],
)
def test_refused(config: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        read(config, "a model")
