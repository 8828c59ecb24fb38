"""The metrics that an expression names, and comparisons that answer."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from grafana.promql import metric_names, with_bool


@pytest.mark.parametrize(
    ("expr", "names"),
    [
        ("up", {"up"}),
        ('sum by (model, le) (rate(ray_a_bucket{le="0.5", x=~"b|c"}[5m]))', {"ray_a_bucket"}),
        ("a / on (x) group_left (node) b * 1e6", {"a", "b"}),
        ("job:a_b:rate5m > bool 14.4 * 0.01 and c", {"job:a_b:rate5m", "c"}),
        ('label_replace(a, "x", "$1", "y", "(.+)")', {"a"}),
        ("time() - max_over_time(a[1h])", {"a"}),
        ("a offset 5m or vector(0)", {"a"}),
        ("count by (x) (a{y='b(c)'}) unless ignoring(z) d", {"a", "d"}),
        ("sum(a) by (x) / 3600 * $price", {"a"}),
        ("1 - 2 * inf", set()),
    ],
)
def test_metric_names(expr: str, names: set[str]) -> None:
    assert metric_names(expr) == names


@given(st.from_regex(r"[a-z][a-z_0-9]{0,20}", fullmatch=True).map(lambda name: f"x_{name}"))
def test_a_name_is_found_wherever_it_stands(name: str) -> None:
    for form in ("{}", "rate({}[5m])", "sum by (a) ({})", "1 / {}", '{}{{b="c"}} > 0.5'):
        assert metric_names(form.format(name)) == {name}


@pytest.mark.parametrize(
    ("expr", "answering"),
    [
        ("a > 0.5 and b >= 1", "a > bool 0.5 and b >= bool 1"),
        ("a > bool 1", "a > bool 1"),
        ('a{b!="c",d=~"e>f"} == 0', 'a{b!="c",d=~"e>f"} == bool 0'),
        ("rate(a[5m]) < 1 or b != 2", "rate(a[5m]) < bool 1 or b != bool 2"),
        ("a + b", "a + b"),
    ],
)
def test_with_bool(expr: str, answering: str) -> None:
    assert with_bool(expr) == answering
