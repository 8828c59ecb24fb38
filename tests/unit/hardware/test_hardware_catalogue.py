"""The shipped catalogue and the names people, Ray and drivers use."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import GIB, Gpu, gpu_by_name, gpu_names, shipped_catalogue
from rayserve_par.hardware.gpu_entry import ENTRY_KEYS

GPUS = shipped_catalogue().gpus
EVIDENCE = Path(__file__).resolve().parents[3] / "../shared/evidence"
STRATEGY = st.sampled_from(GPUS)


@pytest.mark.parametrize(
    ("name", "memory_gb", "usable_gib", "per_node", "domain"),
    [
        ("A10G", 24, 22.03, 4, 4),
        ("L4", 24, 22.03, 4, 4),
        ("L40S", 48, 44.39, 4, 4),
        ("A100-40", 40, 39.39, 8, 8),
        ("A100-80", 80, 79.14, 8, 8),
        ("H100", 80, 79.18, 8, 8),
        ("H100-PCIe", 80, 79.1, 8, 2),
        ("H100-NVL", 94, 93.0, 8, 2),
        ("H200", 141, 139.72, 8, 8),
        ("H800", 80, 79.18, 8, 8),
        ("H20", 96, 95.0, 8, 8),
        ("B200", 180, 178.35, 8, 8),
        ("B300", 288, 267.69, 8, 8),
        ("GB200", 186, 184.31, 4, 72),
        ("GB300", 288, 276.5, 4, 72),
        ("RTX-PRO-6000", 96, 94.97, 8, 8),
        ("MI300X", 192, 191.69, 8, 8),
        ("MI325X", 256, 255.69, 8, 8),
        ("MI355X", 288, 287.98, 8, 8),
        ("logical-cpu", 4, 3.72, 2, 2),
    ],
)
def test_memory_and_node(
    name: str, memory_gb: float, usable_gib: float, per_node: int, domain: int
) -> None:
    gpu = gpu_by_name(name)
    assert (gpu.memory_gb, gpu.usable_gib) == (memory_gb, usable_gib)
    assert (gpu.gpus_per_node, gpu.nvlink_domain_gpus) == (per_node, domain)


# TB/s; dense TFLOP/s; GB/s one way.
@pytest.mark.parametrize(
    ("name", "hbm", "bf16", "fp8", "fp4", "link", "nic"),
    [
        ("A10G", 0.6, 70, None, None, 32, 1.25),
        ("L4", 0.3, 121, 242.5, None, 32, 1.25),
        ("L40S", 0.864, 362.05, 733, None, 32, 6.25),
        ("A100-40", 1.555, 312, None, None, 300, 6.25),
        ("A100-80", 2.039, 312, None, None, 300, 6.25),
        ("H100", 3.35, 989.4, 1978.9, None, 450, 50),
        ("H100-PCIe", 2.0, 756, 1513, None, 300, 25),
        ("H100-NVL", 3.938, 835.5, 1671, None, 300, 25),
        ("H200", 4.8, 989.4, 1978.9, None, 450, 50),
        ("H800", 3.35, 989.4, 1978.9, None, 200, 50),
        ("H20", 4.0, 148, 296, None, 450, 50),
        ("B200", 8, 2250, 4500, 9000, 900, 50),
        ("B300", 8, 2250, 4500, 13500, 900, 100),
        ("GB200", 8, 2500, 5000, 10000, 900, 50),
        ("GB300", 8, 2500, 5000, 15000, 900, 100),
        ("RTX-PRO-6000", 1.597, 500, 1000, 2000, 64, 25),
        ("MI300X", 5.3, 1307.4, 2614.9, None, 448, 50),
        ("MI325X", 6.0, 1307.4, 2614.9, None, 448, 50),
        ("MI355X", 8, 2516.6, 5033.2, 10066.3, 537.6, 50),
    ],
)
def test_speeds(
    name: str,
    hbm: float,
    bf16: float,
    fp8: float | None,
    fp4: float | None,
    link: float,
    nic: float,
) -> None:
    gpu = gpu_by_name(name)
    assert gpu.hbm_bytes_per_second == pytest.approx(hbm * 1e12)
    assert gpu.bf16_flops == pytest.approx(bf16 * 1e12)
    assert gpu.fp8_flops == (None if fp8 is None else pytest.approx(fp8 * 1e12))
    assert gpu.fp4_flops == (None if fp4 is None else pytest.approx(fp4 * 1e12))
    assert gpu.link_bytes_per_second == pytest.approx(link * 1e9)
    assert gpu.nic_bytes_per_second == pytest.approx(nic * 1e9)


def test_the_tables_above_name_every_gpu() -> None:
    assert len(set(gpu_names())) == len(GPUS) == 20


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_every_value_has_its_source(gpu: Gpu) -> None:
    sourced = dict(gpu.sources)
    wanted = {key.field for key in ENTRY_KEYS.values()} - {"engine_backend"}
    assert wanted <= set(sourced)
    assert all(len(source) > 5 for source in sourced.values())
    assert gpu.source_of("memory_gb") == sourced["memory_gb"]
    if gpu.engine_backend != "cpu":
        for field in wanted - {"usable_gib"} - ({"price_per_hour_usd"} & _unpriced(gpu)):
            assert "https://" in sourced[field], field


def _unpriced(gpu: Gpu) -> set[str]:
    return {"price_per_hour_usd"} if gpu.price_per_hour_usd is None else set()


def test_a_value_without_its_own_source_has_the_entrys() -> None:
    gpu = replace(gpu_by_name("H100"), sources=())
    assert gpu.source_of("bf16_flops") == gpu.source


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_usable_memory_is_near_the_marketed(gpu: Gpu) -> None:
    # Makers round both ways: MI300X offers 192 GiB, not GB; 24 GB Ampere offers 22 GiB.
    assert 0.9 < gpu.usable_bytes / 1e9 / gpu.memory_gb < 1.08
    assert gpu.usable_bytes == gpu.usable_gib * GIB


@pytest.mark.parametrize(
    "gpu", [g for g in GPUS if g.engine_backend != "cpu"], ids=lambda g: g.name
)
def test_dense_peaks_double_as_formats_halve(gpu: Gpu) -> None:
    # A figure taken with sparsity would show as a factor of 4 or 1; B300's FP4 is 3 x its FP8.
    if gpu.fp8_flops is not None:
        assert gpu.fp8_flops / gpu.bf16_flops == pytest.approx(2, rel=0.02)
    if gpu.fp4_flops is not None and gpu.fp8_flops is not None:
        assert gpu.fp4_flops / gpu.fp8_flops == pytest.approx(
            3 if gpu.generation == "Blackwell Ultra" else 2, rel=0.02
        )


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_links_are_slower_than_memory_and_faster_than_nics(gpu: Gpu) -> None:
    assert gpu.hbm_bytes_per_second > gpu.link_bytes_per_second > gpu.nic_bytes_per_second


@pytest.mark.parametrize(
    ("name", "bits", "tflops"),
    [
        ("B200", 4, 9000),
        ("B200", 8, 4500),
        ("H100", 4, 1978.9),
        ("H100", 8, 1978.9),
        ("H100", 16, 989.4),
        ("H100", 32, 494.7),
        ("A100-80", 4, 312),
        ("A100-80", 8, 312),
        ("A100-80", 32, 156),
        ("B200", 4.5, 4500),
        ("B200", 6, 4500),
        ("MI300X", 32, 653.7),
    ],
)
def test_peak_by_bits(name: str, bits: float, tflops: float) -> None:
    assert gpu_by_name(name).peak_flops(bits) == pytest.approx(tflops * 1e12)


@given(STRATEGY, st.floats(0.5, 32), st.floats(0.5, 32))
def test_wider_operands_are_never_faster(gpu: Gpu, one: float, other: float) -> None:
    narrow, wide = sorted((one, other))
    assert gpu.peak_flops(narrow) >= gpu.peak_flops(wide) > 0


@pytest.mark.parametrize("bits", [0, -4, 64, float("nan")])
def test_bits_that_nothing_computes(bits: float) -> None:
    with pytest.raises(RefusedError, match="write 4, 8, 16 or 32"):
        gpu_by_name("H100").peak_flops(bits)


@pytest.mark.parametrize(
    ("spoken", "name"),
    [
        ("h200", "H200"),
        (" H200 ", "H200"),
        ("NVIDIA-H100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA H100 PCIe", "H100-PCIe"),
        ("NVIDIA H100 NVL", "H100-NVL"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80"),
        ("A100-40G", "A100-40"),
        ("NVIDIA L40S", "L40S"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "RTX-PRO-6000"),
        ("AMD-Instinct-MI300X-OAM", "MI300X"),
        ("AMD-Instinct-MI325X-OAM", "MI325X"),
        ("AMD-Instinct-MI355X-OAM", "MI355X"),
        ("LOGICAL_CPU", "logical-cpu"),
        ("h100_sxm", "H100"),
        ("h200_sxm", "H200"),
        ("b200_sxm", "B200"),
        ("b300_sxm", "B300"),
        ("a100_sxm", "A100-80"),
        ("gb200_nvl72", "GB200"),
        ("gb300_nvl72", "GB300"),
        ("h20_sxm", "H20"),
        ("h800_sxm", "H800"),
        ("rtx_pro_6000", "RTX-PRO-6000"),
    ],
)
def test_other_names(spoken: str, name: str) -> None:
    assert gpu_by_name(spoken).name == name


def test_aliases_are_in_the_form_that_is_compared_and_hide_no_name() -> None:
    catalogue = shipped_catalogue()
    aliases = [alias for alias, _ in catalogue.aliases]
    assert len(set(aliases)) == len(aliases)
    assert not set(aliases) & {name.lower() for name in catalogue.names}
    for alias, name in catalogue.aliases:
        assert alias == alias.lower()
        assert catalogue.gpu(f"NVIDIA {alias.replace('-', '_')}").name == name


def test_rays_names_for_what_the_catalogue_has() -> None:
    accelerators = pytest.importorskip("ray.util.accelerators")
    known = {
        value
        for key, value in vars(accelerators).items()
        if key.startswith(("NVIDIA_", "AMD_INSTINCT_MI3")) and "TESLA_A10G" not in key
    }
    without = {"A100", "AMD-Instinct-MI300A", "AMD-Instinct-MI308X", "AMD-Instinct-MI350X-OAM"}
    unknown = {"V100", "P100", "T4", "P4", "K80"} | without
    for name in known - unknown:
        assert gpu_by_name(name).name in gpu_names()


@pytest.mark.skipif(not EVIDENCE.exists(), reason="the evidence is not beside this checkout")
@pytest.mark.parametrize(
    ("file", "key"),
    [
        ("h200_engine.jsonl", "gpu"),
        ("measured_memory.jsonl", "gpu"),
        ("measured_latency.jsonl", "gpu"),
        ("published_layouts.jsonl", "hardware"),
    ],
)
def test_the_spellings_of_the_evidence(file: str, key: str) -> None:
    lines = (EVIDENCE / file).read_text(encoding="utf-8").splitlines()
    spoken = {json.loads(line)[key] for line in lines} - {"any"}
    assert spoken
    for name in spoken:
        gpu_by_name(name)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("H20O", "'H20O' is not known. Nearest: .*H200"),
        ("L40", "Nearest: .*L40S"),
        ("zzz", "'zzz' is not known. Known: A10G"),
        ("A100", "40 GB and with 80 GB. Write A100-40 or A100-80"),
        ("NVIDIA A100 SXM4", "Write A100-40 or A100-80"),
        ("", "is not known"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        gpu_by_name(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"memory_gb": 0}, "memory of 0 GB"),
        ({"usable_gib": -1}, "-1 GiB usable"),
        ({"gpus_per_node": 0}, "0 GPUs per node"),
        ({"nvlink_domain_gpus": 0}, "0 per NVLink domain"),
        ({"hbm_bytes_per_second": 0}, "hbm_bytes_per_second of 0"),
        ({"fp8_flops": -1.0}, "fp8_flops of -1"),
        ({"nic_bytes_per_second": 0}, "nic_bytes_per_second of 0"),
        ({"price_per_hour_usd": -2.0}, "price of -2"),
    ],
)
def test_a_gpu_that_cannot_be(change: dict[str, Any], message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        replace(gpu_by_name("H100"), **change)
