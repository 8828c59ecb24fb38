"""Which config a row of evidence means."""

import json
from pathlib import Path
from typing import Any

import pytest
from evaluation_cases import SHARED, known, write_configs

from rayserve_par.cli.evaluation.config_folder import ConfigFolder, base_name, precision_asked
from rayserve_par.errors import RefusedError

LLAMA = "meta-llama/Llama-3.1-8B-Instruct"
GPT = "openai/gpt-oss-120b"
QWEN_FP8 = "Qwen/Qwen3-235B-A22B-FP8"
MODELOPT_FP8 = {"quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}


@pytest.mark.parametrize(
    ("name", "base"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", "llama-3.1-8b"),
        ("meta-llama--Meta-Llama-3.1-8B", "llama-3.1-8b"),
        ("nvidia/Llama-3.1-8B-Instruct-FP8", "llama-3.1-8b"),
        ("nvidia/DeepSeek-V3-0324-NVFP4", "deepseek-v3"),
        ("deepseek-ai/DeepSeek-V3.2-Exp", "deepseek-v3.2"),
        ("nvidia/Qwen3.5-397B-A17B-NVFP4-V2", "qwen3.5-397b-a17b"),
        ("Qwen/Qwen3-235B-A22B-Instruct-2507-FP8", "qwen3-235b-a22b"),
        ("Qwen--Qwen3-32B-FP8-Static-PerTensor", "qwen3-32b"),
        ("RedHatAI/Qwen3-32B-quantized.w4a16", "qwen3-32b"),
        ("DeepSeek-V4-Pro (1.6T/49B)", "deepseek-v4-pro"),
        ("Nemotron-3-Ultra 550B-A55B NVFP4", "nemotron-3-ultra-550b-a55b"),
        ("nvidia--NVIDIA-Nemotron-3-Ultra-550B-A55B-BF16", "nemotron-3-ultra-550b-a55b"),
        ("nvidia--Llama-3_3-Nemotron-Super-49B-v1", "llama-3.3-nemotron-super-49b-v1"),
        ("nvidia--Nemotron-H-56B-Base-8K", "nemotron-h-56b"),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mixtral-8x7b"),
        ("org/model-2025-07-28", "model"),
        ("RedHatAI/Llama-3.1-8B-Instruct-quantized.w8a8", "llama-3.1-8b"),
        ("RedHatAI/Qwen3-32B-W4A16-G128", "qwen3-32b"),
        ("amd/Llama-3.1-70B-Instruct-FP8-KV", "llama-3.1-70b"),
        ("unsloth/Qwen3-32B-unsloth-bnb-4bit", "qwen3-32b"),
        ("acme/Qwen3-32B-bnb-8bit", "qwen3-32b"),
        # What tells models apart stays.
        ("openai/gpt-oss-20b", "gpt-oss-20b"),
        ("deepseek-ai/DeepSeek-R1-0528", "deepseek-r1"),
        ("Qwen/Qwen3-Coder-480B-A35B-Instruct", "qwen3-coder-480b-a35b"),
        ("(generic, > 1 node)", ""),
    ],
)
def test_base_name(name: str, base: str) -> None:
    assert base_name(name) == base


@pytest.mark.parametrize(
    ("name", "precision", "asked"),
    [
        ("m", "", None),
        ("m", "any", None),
        ("m", "BF16", "bf16"),
        ("m", "fp4", "fp4"),
        ("m", "fp4+fp8", "fp4"),
        ("m", "w4a16", "int4"),
        ("m", "int8", "fp8"),
        ("org/m-NVFP4", "", "nvfp4"),
        ("org/m-FP8-dynamic", "", "fp8"),
        ("m (FP8)", "", "fp8"),
        ("org/m-quantized.w8a8", "", "fp8"),
        ("org/m-quantized.w4a16", "", "int4"),
        ("org/m-bnb-4bit", "", "int4"),
        ("org/m-FP8-KV", "", "fp8"),
        ("org/m-NVFP4", "fp8", "fp8"),
    ],
)
def test_precision_asked(name: str, precision: str, asked: str | None) -> None:
    assert precision_asked(name, precision) == asked


def test_an_unknown_precision_is_refused() -> None:
    with pytest.raises(RefusedError, match="precision 'ternary' is not known"):
        precision_asked("m", "ternary")


@pytest.fixture
def configs(tmp_path: Path) -> ConfigFolder:
    llama = known(LLAMA)
    write_configs(
        tmp_path,
        {
            "acme--Chat-8B": llama,
            "other--Chat-8B-FP8": llama,
            "acme--Big-MoE-FP8": known(QWEN_FP8),
            "acme--Native-120b": known(GPT),
            "someone--Native-120b-FP8": known("nvidia/Llama-3.3-70B-Instruct-FP8"),
            "bad--Odd-1B": {"model_type": "no-such-type"},
            "nested/Deep-8B": llama,
            "plain-8B": llama,
        },
    )
    beside = tmp_path / "other--Chat-8B-FP8" / "hf_quant_config.json"
    beside.write_text(json.dumps(MODELOPT_FP8), encoding="utf-8")
    broken = tmp_path / "acme--Broken-8B" / "config.json"
    broken.parent.mkdir()
    broken.write_text("{", encoding="utf-8")
    return ConfigFolder(tmp_path)


@pytest.mark.parametrize(
    ("name", "precision", "found", "stored"),
    [
        ("acme/Chat-8B", "", "acme/Chat-8B", "bf16"),
        ("acme/Chat-8B-Instruct-0725", "bf16", "acme/Chat-8B", "bf16"),
        # hf_quant_config.json beside config.json is what says FP8.
        ("acme/Chat-8B", "fp8", "other/Chat-8B-FP8", "fp8"),
        ("other/Chat-8B-FP8", "", "other/Chat-8B-FP8", "fp8"),
        ("acme/Chat-8B", "fp4", "acme/Chat-8B", "nvfp4"),
        ("acme/Chat-8B-AWQ", "", "acme/Chat-8B", "int4-g128"),
        # Only the quantised one is there: stored anew, wider.
        ("acme/Big-MoE", "bf16", "acme/Big-MoE-FP8", "bf16"),
        # The maker's own is narrower than the row says: its precision is not of the weights.
        ("acme/Native-120b", "fp8", "acme/Native-120b", "mxfp4"),
        ("acme/Native-120b", "bf16", "acme/Native-120b", "mxfp4"),
        # Its name says it: another's checkpoint.
        ("someone/Native-120b-FP8", "fp8", "someone/Native-120b-FP8", "fp8"),
        ("acme/Native-120b-BF16", "", "acme/Native-120b", "bf16"),
        ("nested/Deep-8B", "", "nested/Deep-8B", "bf16"),
        ("Plain-8B", "", "plain-8B", "bf16"),
        # Not in the folder: the package knows it.
        ("deepseek-ai/DeepSeek-V3.1", "fp8", "deepseek-ai/DeepSeek-V3.1", "fp8-block128"),
    ],
)
def test_spec(configs: ConfigFolder, name: str, precision: str, found: str, stored: str) -> None:
    spec = configs.spec(name, precision)
    assert (spec.name, spec.weight_format.name) == (found, stored)


def test_fp8_anew_is_as_the_maker_or_another_publishes(tmp_path: Path) -> None:
    plain = known(QWEN_FP8, quantization_config=None)
    configs = ConfigFolder(write_configs(tmp_path, {"Qwen--Qwen3-999B": plain}))
    assert configs.spec("Qwen/Qwen3-999B-FP8", "fp8").weight_format.name == "fp8-block128"
    assert configs.spec("nvidia/Qwen3-999B-FP8", "fp8").weight_format.name == "fp8"


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("acme/Chat-70B", "no config for 'acme/Chat-70B'"),
        ("bad/Odd-1B", "model type 'no-such-type' is not known"),
        ("acme/Broken-8B", "cannot be read as JSON"),
    ],
)
def test_refusals(configs: ConfigFolder, name: str, message: str) -> None:
    for _ in range(2):
        with pytest.raises(RefusedError, match=message):
            configs.spec(name)


@pytest.mark.parametrize(
    "odd",
    [
        [],
        {"model_type": ["llama"]},
        {**known(LLAMA), "model_type": {"a": 1}},
        {**known(LLAMA), "text_config": [1]},
        {**known(LLAMA), "hidden_size": "wide"},
        {**known(LLAMA), "quantization_config": [1]},
        {**known(LLAMA), "num_attention_heads": 0},
    ],
)
def test_an_odd_sibling_costs_only_itself(tmp_path: Path, odd: Any) -> None:
    write_configs(tmp_path, {"acme--Chat-9B": odd})
    with pytest.raises(RefusedError):
        ConfigFolder(tmp_path).spec("acme/Chat-9B")
    write_configs(tmp_path, {"other--Chat-9B": known(LLAMA)})
    assert ConfigFolder(tmp_path).spec("acme/Chat-9B").name == "other/Chat-9B"


def test_a_missing_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RefusedError, match="no such folder"):
        ConfigFolder(tmp_path / "nothing")


@pytest.mark.skipif(not (SHARED / "model_configs").is_dir(), reason="no shared configs here")
def test_every_shared_config_is_found_by_its_own_name() -> None:
    folder = SHARED / "model_configs"
    configs = ConfigFolder(folder)
    paths = sorted(folder.glob("*/config.json"))
    assert len(paths) >= 90
    for path in paths:
        name = path.parent.name.replace("--", "/")
        assert configs.spec(name).name == name
