"""The page: whole in one file, well formed, escaped, and true to the plan."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from rayserve_par.cli.main import app
from rayserve_par.cli.plan_html import PagePlan, page
from rayserve_par.cli.plan_html.pareto_plot import classes_of, pareto_plot
from rayserve_par.cli.plan_html.scale import linear_scale, log_scale
from rayserve_par.cli.plan_html.svg import element, text
from rayserve_par.hardware import parse_cluster
from rayserve_par.planning import LayoutRequest, plan
from rayserve_par.planning.pareto import pareto_curves
from rayserve_par.serving.model_store.locate import locate_model

SVG = "{http://www.w3.org/2000/svg}"
_VOID = {"meta", "br", "hr", "img", "link", "input"}


def made(name: str, cluster: str, **asked: int) -> PagePlan:
    model = locate_model(name, prepare=False).spec
    request = LayoutRequest(**asked) if asked else None  # type: ignore[arg-type]
    return PagePlan(name, model, plan(model, parse_cluster(cluster), request=request))


PAGES = {
    "moe over nodes": made("deepseek-ai/DeepSeek-V3.1", "4x8xH200", tp=8, dp=2, ep=16),
    "stages": made("meta-llama/Llama-3.1-8B-Instruct", "8xL4", pp=3),
    "one gpu": made("HuggingFaceTB/SmolLM2-135M-Instruct", "1xL4"),
    "nvl72": made("deepseek-ai/DeepSeek-V3.1", "72xGB200", tp=16, pp=2),
}


class Tags(HTMLParser):
    """Checks that tags close in order, and collects attributes that load something."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.names: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.add(tag)
        self.loads += [f"{name}={value}" for name, value in attrs if name in {"src", "href"}]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", PAGES)
def test_the_page_needs_nothing_else(name: str) -> None:
    shown = page([PAGES[name]])
    tags = Tags()
    tags.feed(shown)
    assert tags.open == []
    assert tags.loads == []
    assert not tags.names & {"script", "link", "img", "iframe", "object", "embed"}
    assert not re.search(r"url\(|@import|\son\w+=", shown)
    addresses = set(re.findall(r"https?://[^\"'\s<]+", shown))
    assert addresses <= {"http://www.w3.org/2000/svg"}


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_well_formed_and_inside_their_frame(name: str) -> None:
    one = PAGES[name]
    for picture in (one.pareto, one.memory, one.topology):
        root = ET.fromstring(str(picture))
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        for shape in root.iter():
            for key, most in (("x", width), ("cx", width), ("y", height), ("cy", height)):
                if key in shape.attrib:
                    assert -0.01 <= float(shape.attrib[key]) <= most + 0.01
            if shape.tag == f"{SVG}rect":
                right = float(shape.attrib["x"]) + float(shape.attrib["width"])
                assert right <= width + 0.01


def test_every_rank_that_is_drawn_is_in_the_topology() -> None:
    picture = str(PAGES["moe over nodes"].topology)
    assert picture.count(">rank ") == 2 * 16
    assert picture.count(">DP 1<") == 2 * 8
    assert str(PAGES["nvl72"].topology).count(">rank ") == 32


def test_the_page_says_what_the_plan_says() -> None:
    one = PAGES["moe over nodes"]
    shown = page([one])
    for part in ("TP8DP2EP16", "on 4x8xH200", "What auto takes", "Layouts refused", "TPOT = d + "):
        assert part in shown
    assert shown.count('<tr class="taken">') == 1
    refused = re.search(r'class="reasons"><tbody>(.*?)</tbody>', shown, re.S)
    assert refused is not None
    assert refused[1].count("<tr>") == len(one.plan.refused)


HOSTILE = '<script>alert("x")</script>\'"&<b>'


def test_names_and_reasons_are_escaped() -> None:
    one = PAGES["one gpu"]
    hostile = replace(one.plan, model_name=HOSTILE, reasons=(HOSTILE,), warnings=(HOSTILE,))
    shown = page([replace(one, name=HOSTILE, plan=hostile, notes=(HOSTILE,))] * 2)
    assert "<script" not in shown
    assert "<b>'" not in shown
    assert shown.count("&lt;script&gt;") >= 5
    ET.fromstring(str(pareto_plot(hostile, pareto_curves(one.model, one.plan))))


_TEXTS = st.text(st.characters(codec="utf-8", exclude_categories=("Cc", "Cs")))


@given(_TEXTS, _TEXTS)
def test_any_text_survives_in_an_element(content: str, value: str) -> None:
    read = ET.fromstring(str(element("g", content, data_x=value)))
    assert (read.text or "") == content
    assert read.attrib["data-x"] == value
    assert text(content, 1, 2).count("<") == 2


@pytest.mark.parametrize("name", PAGES)
def test_the_plot_names_the_layout_taken_first_and_at_most_seven(name: str) -> None:
    one = PAGES[name]
    curves = pareto_curves(one.model, one.plan)
    classes = classes_of(curves)
    assert classes[one.plan.layout] == "c0"
    named = [found for found in classes.values() if found != "grey"]
    assert len(named) == len(set(named)) == min(7, len(classes))
    assert len(one.legend) == len(named) + ("grey" in classes.values())


@given(st.floats(1e-3, 1e7))
def test_linear_ticks_are_round_and_reach_the_top(largest: float) -> None:
    scale = linear_scale(largest, 0, 100)
    assert largest <= scale.top * (1 + 1e-9)
    assert 3 <= len(scale.ticks) <= 8
    assert scale.at(scale.ticks[-1]) == pytest.approx(100)
    assert scale.at(0) == 0


@given(st.floats(1e-3, 1e6), st.floats(1, 1e6))
def test_log_ticks_go_from_below_the_least_to_above_the_largest(
    smallest: float, factor: float
) -> None:
    scale = log_scale(smallest, smallest * factor, 0, 100)
    assert scale.bottom <= smallest * (1 + 1e-5)
    assert scale.top >= smallest * factor * (1 - 1e-5)
    assert scale.ticks[0] == scale.bottom
    assert scale.ticks[-1] == pytest.approx(scale.top)
    assert len(scale.ticks) >= 2


def test_the_command_writes_the_page(tmp_path: Path) -> None:
    file = tmp_path / "plan.html"
    arguments = ["plan", "openai/gpt-oss-120b", "--gpus", "8xH100", "--html", str(file)]
    done = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert done.exit_code == 0
    assert f"Wrote {file}" in done.output
    assert file.read_text(encoding="utf-8").startswith("<!doctype html>")
