"""Writes the tables of docs/hardware.md from the shipped catalogue.

Run from the repository's root: python -m scripts.hardware_page
"""

from pathlib import Path

from rayserve_par.hardware import Gpu, shipped_catalogue

PAGE = Path(__file__).resolve().parents[1] / "docs" / "hardware.md"
BEGIN = "<!-- written by scripts/hardware_page.py -->"
END = "<!-- end of what is written -->"

_HEADS = (
    "GPU",
    "generation",
    "memory GB",
    "usable GiB",
    "memory GB/s",
    "BF16",
    "FP8",
    "FP4",
    "link GB/s",
    "domain",
    "per node",
    "NIC GB/s",
    "$/h",
)


def _number(value: float | None, unit: float = 1.0) -> str:
    return "-" if value is None else f"{value / unit:,.7g}"


def _row(gpu: Gpu) -> list[str]:
    on_pcie = not gpu.nvlink and gpu.engine_backend != "cpu"
    return [
        gpu.name,
        f"{gpu.generation} ({gpu.compute_capability})",
        _number(gpu.memory_gb),
        _number(gpu.usable_gib),
        _number(gpu.hbm_bytes_per_second, 1e9),
        _number(gpu.bf16_flops, 1e12),
        _number(gpu.fp8_flops, 1e12),
        _number(gpu.fp4_flops, 1e12),
        _number(gpu.link_bytes_per_second, 1e9) + (" (PCIe)" if on_pcie else ""),
        _number(gpu.nvlink_domain_gpus),
        _number(gpu.gpus_per_node),
        _number(gpu.nic_bytes_per_second, 1e9),
        _number(gpu.price_per_hour_usd),
    ]


def _line(cells: list[str] | tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _sources(gpu: Gpu) -> list[str]:
    by_source: dict[str, list[str]] = {}
    for field, source in gpu.sources:
        by_source.setdefault(source, []).append(f"`{field}`")
    lines = [f"- {', '.join(fields)}: {source}" for source, fields in by_source.items()]
    return [f"### {gpu.name}", "", f"{gpu.source}", "", *lines, ""]


def tables() -> str:
    """The values of every GPU, then the source of each."""
    gpus = shipped_catalogue().gpus
    lines = [_line(_HEADS), _line(["---"] * len(_HEADS)), *(_line(_row(gpu)) for gpu in gpus)]
    lines += ["", "## Sources", ""]
    for gpu in gpus:
        lines += _sources(gpu)
    return "\n".join(lines).rstrip() + "\n"


def page(old: str) -> str:
    """The page with its written part made anew; what stands around it is kept."""
    before, _, rest = old.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{tables()}\n{END}{after}"


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
