"""The catalogue and the names people and Ray use."""

import pytest

from rayserve_par.errors import RefusedError
from rayserve_par.hardware import GIB, Gpu, gpu_by_name, gpu_names
from rayserve_par.hardware.catalogue import GPUS


@pytest.mark.parametrize(
    ("name", "memory_gb", "per_node", "domain"),
    [
        ("A10G", 24, 4, 4),
        ("L4", 24, 4, 4),
        ("L40S", 48, 4, 4),
        ("A100-40", 40, 8, 8),
        ("A100-80", 80, 8, 8),
        ("H100", 80, 8, 8),
        ("H100-NVL", 94, 8, 2),
        ("H200", 141, 8, 8),
        ("B200", 180, 8, 8),
        ("B300", 288, 8, 8),
        ("GB200", 186, 4, 72),
        ("MI300X", 192, 8, 8),
        ("logical-cpu", 4, 2, 2),
    ],
)
def test_marketed_facts(name: str, memory_gb: float, per_node: int, domain: int) -> None:
    gpu = gpu_by_name(name)
    assert (gpu.memory_gb, gpu.gpus_per_node, gpu.nvlink_domain_gpus) == (
        memory_gb,
        per_node,
        domain,
    )


def test_every_gpu_is_in_the_table_above_and_has_a_source() -> None:
    assert len(set(gpu_names())) == len(GPUS) == 13
    assert all(len(gpu.source) > 10 for gpu in GPUS)


@pytest.mark.parametrize("gpu", GPUS, ids=lambda gpu: gpu.name)
def test_usable_memory_is_near_the_marketed(gpu: Gpu) -> None:
    # Makers round both ways: MI300X offers 192 GiB, not GB; 24 GB Ampere offers 22 GiB.
    assert 0.9 < gpu.usable_bytes / 1e9 / gpu.memory_gb < 1.08
    assert gpu.usable_bytes == gpu.usable_gib * GIB


@pytest.mark.parametrize(
    ("spoken", "name"),
    [
        ("h200", "H200"),
        (" H200 ", "H200"),
        ("NVIDIA-H100", "H100"),
        ("NVIDIA H100 80GB HBM3", "H100"),
        ("NVIDIA-A100-SXM4-80GB", "A100-80"),
        ("A100-40G", "A100-40"),
        ("NVIDIA L40S", "L40S"),
        ("AMD-Instinct-MI300X-OAM", "MI300X"),
        ("LOGICAL_CPU", "logical-cpu"),
    ],
)
def test_other_names(spoken: str, name: str) -> None:
    assert gpu_by_name(spoken).name == name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("H20O", "'H20O' is not known. Nearest: .*H200"),
        ("L40", "Nearest: .*L40S"),
        ("zzz", "'zzz' is not known. Known: A10G"),
        ("A100", "40 GB and with 80 GB. Write A100-40 or A100-80"),
        ("", "is not known"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(RefusedError, match=message):
        gpu_by_name(name)


@pytest.mark.parametrize(("memory_gb", "per_node"), [(0, 8), (80, 0)])
def test_a_gpu_that_cannot_be(memory_gb: float, per_node: int) -> None:
    with pytest.raises(RefusedError):
        Gpu("X", memory_gb, 1.0, True, per_node, 8, "a test")
