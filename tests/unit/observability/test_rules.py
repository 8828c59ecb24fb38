"""The rules: valid and right by promtool, and every alert says what to do."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import yaml

from grafana.rules import FOLDER, RULES, Rule, all_rules
from tests.e2e.prometheus import PrometheusMissingError, promtool_binary

TESTS = Path(__file__).with_name("alerts_test.yaml")
ALERTS = [rule for rule in all_rules() if rule.alert]


@pytest.fixture(scope="module")
def promtool() -> Path:
    try:
        return promtool_binary()
    except PrometheusMissingError as reason:
        pytest.skip(f"no promtool: {reason}")


def _run(*command: str | Path) -> str:
    words = [str(word) for word in command]
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_promtool_takes_the_rules(promtool: Path) -> None:
    files = sorted(RULES.glob("*.yaml"))
    out = _run(promtool, "check", "rules", *files)
    assert out.count("SUCCESS") == len(files) > 0


def test_promtool_takes_the_configuration(promtool: Path, tmp_path: Path) -> None:
    text = (FOLDER / "prometheus" / "prometheus.yml").read_text(encoding="utf-8")
    assert "/etc/prometheus/rules/*.yaml" in text
    config = tmp_path / "prometheus.yml"
    config.write_text(text.replace("/etc/prometheus/rules", str(RULES)), encoding="utf-8")
    out = _run(promtool, "check", "config", config)
    assert "2 rule files found" in out


def test_alerts_fire_when_they_should_and_not_otherwise(promtool: Path) -> None:
    assert "SUCCESS" in _run(promtool, "test", "rules", TESTS)


def test_every_alert_is_made_to_fire_by_a_test() -> None:
    tests = yaml.safe_load(TESTS.read_text(encoding="utf-8"))["tests"]
    fired = {
        case["alertname"]
        for test in tests
        for case in test.get("alert_rule_test", ())
        if case["exp_alerts"]
    }
    assert fired == {rule.name for rule in ALERTS}


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule.name)
def test_an_alert_says_how_bad_it_is_and_what_to_do(rule: Rule) -> None:
    assert rule.name.startswith("RayservePar")
    assert rule.found["labels"]["severity"] in {"page", "ticket", "info"}
    assert set(rule.found["annotations"]) == {"summary", "description"}
    assert rule.found["annotations"]["description"].strip().endswith(".")


def test_names_are_not_used_twice() -> None:
    names = [rule.name for rule in all_rules()]
    assert len(set(names)) == len(names)
    assert all(rule.name.count(":") == 2 for rule in all_rules() if not rule.alert)
