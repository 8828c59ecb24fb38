"""docs/hardware.md says what the catalogue says."""

from rayserve_par.hardware import shipped_catalogue
from scripts.hardware_page import BEGIN, END, PAGE, page


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert page(text) == text, "run: python -m scripts.hardware_page"


def test_the_page_has_every_gpu_with_its_sources() -> None:
    text = PAGE.read_text(encoding="utf-8")
    for gpu in shipped_catalogue().gpus:
        assert f"\n| {gpu.name} | " in text
        section = text.split(f"\n### {gpu.name}\n")[1].split("\n### ")[0]
        assert all(f"`{field}`" in section and source in section for field, source in gpu.sources)


def test_only_what_is_between_the_marks_is_written() -> None:
    old = f"above\n{BEGIN}\nstale\n{END}\nbelow\n"
    new = page(old)
    assert new.startswith(f"above\n{BEGIN}\n")
    assert new.endswith(f"{END}\nbelow\n")
    assert "stale" not in new
