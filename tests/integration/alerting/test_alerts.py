"""The alerts: each fires when it should and is quiet when it should be, and says what to do."""

import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from plumbline.monitoring.alert import RUNBOOKS

ROOT = Path(__file__).parents[3]
RULES = ROOT / "kustomize/monitoring/rules"
PROMTOOL = ROOT / ".cache/bin/promtool"
HERE = Path(__file__).parent
# promtool's unit tests; recordings are tested with the alerts that use them.
SCENARIOS = sorted((HERE / "scenarios").glob("*.yaml"))


def _objects() -> dict[str, dict[str, Any]]:
    files = (path for path in RULES.glob("*.yaml") if path.name != "kustomization.yaml")
    return {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in files}


def _alerts() -> list[dict[str, Any]]:
    groups = [group for item in _objects().values() for group in item["spec"]["groups"]]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    """Every PrometheusRule as the file that prometheus-operator makes of it, less the runbooks, which say nothing."""
    for name, item in _objects().items():
        for rule in (rule for group in item["spec"]["groups"] for rule in group["rules"]):
            rule.get("annotations", {}).pop("runbook", None)
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(item["spec"]), encoding="utf-8")
    return tmp_path


def _promtool(*arguments: str | Path) -> None:
    if not PROMTOOL.exists():
        pytest.fail("promtool is missing: run `make tools`")
    done = subprocess.run([PROMTOOL, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_are_valid_and_none_stands_twice(rules: Path) -> None:
    _promtool("check", "rules", "--lint=all", "--lint-fatal", *sorted(rules.glob("*.yaml")))


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.stem)
def test_alerts_fire_when_they_should(scenario: Path, rules: Path) -> None:
    path = rules / "scenario" / scenario.name
    path.parent.mkdir()
    named = yaml.safe_load(scenario.read_text(encoding="utf-8"))
    path.write_text(yaml.safe_dump({**named, "rule_files": [f"../{name}" for name in named["rule_files"]]}))
    _promtool("test", "rules", path)


def test_every_alert_is_seen_to_fire_and_to_be_quiet() -> None:
    seen: dict[str, set[bool]] = {alert["alert"]: set() for alert in _alerts()}
    for scenario in SCENARIOS:
        for case in yaml.safe_load(scenario.read_text())["tests"]:
            for check in case["alert_rule_test"]:
                seen[check["alertname"]].add(bool(check.get("exp_alerts")))
    # It is always on: that is what it is for.
    assert seen.pop("Watchdog") == {True}
    assert {name: cases for name, cases in seen.items() if cases != {True, False}} == {}


@pytest.mark.parametrize("alert", _alerts(), ids=lambda alert: f"{alert['alert']}-{alert['labels'].get('window', '')}")
def test_an_alert_says_how_urgent_it_is_and_what_to_do(alert: dict[str, Any]) -> None:
    assert alert["labels"]["severity"] in {"page", "ticket", "none"}
    assert alert["annotations"].keys() == {"summary", "runbook"}
    page, anchor = alert["annotations"]["runbook"].split("#")
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs/runbooks" / page).read_text(encoding="utf-8"), re.MULTILINE)
    assert anchor == alert["alert"].lower()
    assert alert["alert"] in headings


def test_no_runbook_is_left_of_an_alert_that_is_gone() -> None:
    pages = "\n".join(page.read_text(encoding="utf-8") for page in (ROOT / "docs/runbooks").glob("*.md"))
    # One word alone is an alert's name, of a rule or of what a command sends; other headings are for people.
    sent = {name for name, page in RUNBOOKS.items() if page.endswith(f"#{name.lower()}")}
    assert set(re.findall(r"^## ([A-Z]\w+)$", pages, re.MULTILINE)) == {alert["alert"] for alert in _alerts()} | sent
