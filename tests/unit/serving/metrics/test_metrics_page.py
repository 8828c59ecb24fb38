"""docs/metrics.md says what the registry and the rules say."""

from __future__ import annotations

from grafana.rules import all_rules
from rayserve_par.serving.metric_registry import (
    CONTROLLER_METRICS,
    FOREIGN_METRICS,
    INSTANCE_METRICS,
    REPLANNER_METRICS,
)
from scripts.metrics_page import BEGIN, END, PAGE, page


def test_the_page_is_current() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.count(BEGIN) == text.count(END) == 1
    assert page(text) == text, "run: python -m scripts.metrics_page"


def test_the_page_has_every_metric_and_every_alert_once() -> None:
    text = PAGE.read_text(encoding="utf-8")
    controls = (*CONTROLLER_METRICS.values(), *REPLANNER_METRICS.values())
    ours = (*INSTANCE_METRICS.values(), *controls)
    for name in (*(metric.exported for metric in ours), *FOREIGN_METRICS):
        assert text.count(f"\n| `{name}` |") == 1, name
    for rule in all_rules():
        if rule.alert:
            assert text.count(f"\n| `{rule.name}` |") == 1, rule.name


def test_the_page_names_what_prometheus_fills_in() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert "{{" not in text
    assert "*value*" in text


def test_no_row_of_a_table_is_broken() -> None:
    heads = 0
    for line in PAGE.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            heads = 0
            continue
        cells = line.replace("\\|", "").count("|")
        heads = heads or cells
        assert cells == heads, line


def test_only_what_is_between_the_marks_is_written() -> None:
    new = page(f"above\n{BEGIN}\nwhat was there before\n{END}\nbelow\n")
    assert new.startswith(f"above\n{BEGIN}\n")
    assert new.endswith(f"{END}\nbelow\n")
    assert "what was there before" not in new
