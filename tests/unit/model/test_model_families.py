"""Parameters of every type that transformers can build, and what the published configs rely on.

`transformers_totals.json` holds small configs and the parameters that transformers 5 counts when it
builds `AutoModelForCausalLM.from_config` of them on the meta device.
"""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.model import known_config, known_names, model_spec_from_config
from rayserve_par.model.families import READERS, known_model_types
from rayserve_par.model.families.experts import sparse_layers
from rayserve_par.model.mixers.attention import GqaAttention, MlaAttention
from rayserve_par.model.mixers.gated_delta_net import GatedDeltaNet
from rayserve_par.model.mixers.mixer import kv_bytes_per_token_per_rank

TOTALS: dict[str, dict[str, Any]] = json.loads(
    Path(__file__).with_name("transformers_totals.json").read_text(encoding="utf-8")
)
CONFIGS = Path(__file__).resolve().parents[4] / "shared" / "model_configs"


@pytest.mark.parametrize("model_type", TOTALS)
def test_parameters_as_transformers_counts_them(model_type: str) -> None:
    case = TOTALS[model_type]
    spec = model_spec_from_config({"model_type": model_type, **case["config"]}, "m")
    # Router corrections are buffers there; biases of LayerNorms are left out here.
    assert spec.parameters == pytest.approx(case["parameters"], rel=1e-3)


def test_every_type_has_a_reader_by_its_exact_name() -> None:
    assert known_model_types() == tuple(sorted(READERS))
    assert len(READERS) >= 70
    assert set(TOTALS) <= set(READERS)


def small(model_type: str, **changes: Any) -> dict[str, Any]:
    return {"model_type": model_type, **TOTALS[model_type]["config"], **changes}


@pytest.mark.parametrize(
    ("fields", "shared"),
    [
        ({}, [False] * 6),
        # GLM-5.2: three of its own, then every fourth.
        ({"index_topk_freq": 4, "index_skip_topk_offset": 3}, [0, 0, 0, 1, 1, 1]),
        ({"index_topk_freq": 2}, [0, 0, 1, 0, 1, 0]),
        ({"index_topk_pattern": "FSFSFF"}, [0, 1, 0, 1, 0, 0]),
        ({"indexer_types": ["full"] * 4 + ["shared"] * 2}, [0, 0, 0, 0, 1, 1]),
    ],
)
def test_layers_that_share_a_sparse_index(fields: dict[str, Any], shared: list[bool]) -> None:
    spec = model_spec_from_config(small("glm_moe_dsa", num_nextn_predict_layers=1, **fields), "m")
    mixers = [layer.mixer for layer in (*spec.layers, *spec.mtp_layers)]
    found = [
        mixer.index.is_shared for mixer in mixers if isinstance(mixer, MlaAttention) and mixer.index
    ]
    assert found == [*shared, False]


def test_hybrid_layers_of_qwen3_5() -> None:
    config = small("qwen3_5_text", mamba_ssm_dtype="float32", num_hidden_layers=8)
    mixers = [layer.mixer for layer in model_spec_from_config(config, "m").layers]
    assert [isinstance(m, GqaAttention) for m in mixers] == [n % 4 == 3 for n in range(8)]
    linear, full = mixers[0], mixers[3]
    assert isinstance(linear, GatedDeltaNet)
    assert isinstance(full, GqaAttention)
    assert (linear.state_bits, full.output_gate) == (32.0, True)
    kinds = ["full_attention"] + ["linear_attention"] * 7
    by_kind = model_spec_from_config({**config, "layer_types": kinds}, "m")
    assert isinstance(by_kind.layers[0].mixer, GqaAttention)
    with pytest.raises(RefusedError, match="mamba_ssm_dtype 'int8' is not known"):
        model_spec_from_config({**config, "mamba_ssm_dtype": "int8"}, "m")


@pytest.mark.parametrize(
    ("fields", "sparse"),
    [
        ({}, [1, 1, 1, 1]),
        ({"first_k_dense_replace": 2}, [0, 0, 1, 1]),
        ({"moe_layer_freq": 2}, [1, 0, 1, 0]),
        ({"decoder_sparse_step": 2}, [0, 1, 0, 1]),
        ({"mlp_only_layers": [3]}, [1, 1, 1, 0]),
        ({"moe_layer_start_index": 1, "moe_layer_end_index": 2}, [0, 1, 1, 0]),
        ({"moe_layer_interval": 2, "moe_layer_end_index": -1}, [0, 1, 0, 1]),
        ({"mlp_layer_types": ["dense", "sparse", "sparse", "dense"]}, [0, 1, 1, 0]),
    ],
)
def test_sparse_layers(fields: dict[str, Any], sparse: list[int]) -> None:
    assert sparse_layers({"num_hidden_layers": 4, **fields}, "m") == tuple(map(bool, sparse))


def test_experts_that_differ_by_layer_are_refused() -> None:
    config = small("hunyuan_v1_moe", moe_topk=[1, 2] * 3)
    with pytest.raises(RefusedError, match="moe_topk differs between layers"):
        model_spec_from_config(config, "m")
    assert model_spec_from_config({**config, "moe_topk": [2] * 6}, "m").moe is not None


def published() -> list[Path]:
    return sorted(CONFIGS.glob("*/config.json")) if CONFIGS.is_dir() else []


@pytest.mark.skipif(not published(), reason="the published configs are not here")
def test_every_published_config_is_read() -> None:
    files = published()
    assert len(files) >= 90
    seconds = []
    for file in files:
        config = json.loads(file.read_text(encoding="utf-8"))
        start = time.perf_counter()
        spec = model_spec_from_config(config, file.parent.name)
        seconds.append(time.perf_counter() - start)
        assert spec.parameters > 1e8, file
        assert 0 < spec.active_parameters <= spec.parameters, file
        for tp in (1, 8):
            kept = [
                kv_bytes_per_token_per_rank(mixer, tp, spec.kv_cache_bits)
                + mixer.state_bytes_per_request_per_rank(tp)
                for mixer in spec.mixers
            ]
            assert max(kept) > 0, file
        assert len(spec.layer_counts) <= 12, file
    assert sorted(seconds)[len(seconds) // 2] < 0.02


@pytest.mark.parametrize("name", known_names())
def test_components_sum_to_the_whole(name: str) -> None:
    spec = model_spec_from_config(known_config(name) or {}, name)
    assert sum(spec.parameters_by_component.values()) == spec.parameters
    assert sum(count for _, count in spec.layer_counts) == spec.num_layers
    assert sum(spec.weight_bytes_by_component.values()) == pytest.approx(spec.weight_bytes)
