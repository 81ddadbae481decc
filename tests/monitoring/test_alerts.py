"""The alert rules: well-formed, and about metrics that a worker really exports."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring._exported import Exported
from tests.monitoring._promql import OF_BUCKETS, use_of

HERE = Path(__file__).parent
FILE = HERE.parents[1] / "docs" / "monitoring" / "prometheus-alerts.yml"
DURATION = re.compile(r"(\d+(ms|[smhdwy]))+")
LOADED: Any = yaml.safe_load(FILE.read_text())
RULES: list[dict[str, Any]] = [rule for group in LOADED["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: rule for rule in RULES if "record" in rule}


def name_of(rule: dict[str, Any]) -> str:
    return rule.get("alert") or rule["record"]


def test_it_says_what_an_operator_wants_to_be_told():
    assert {rule["alert"] for rule in ALERTS} >= {
        *("DocketWithoutWorkers", "DocketNothingStarts", "DocketWorkIsLate", "DocketQueueGrows", "DocketTaskFails"),
        *("DocketRedeliveries", "DocketRedisDisruptions", "DocketStrikesForgotten", "DocketDeadLettersGrew"),
    }


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_an_alert_says_what_happened_and_what_to_do(rule: dict[str, Any]):
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert re.fullmatch(r"Docket[A-Za-z]+", rule["alert"])
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook"}
    assert "for" not in rule or DURATION.fullmatch(rule["for"])
    assert all(len(text) > 30 for text in rule["annotations"].values())


@pytest.mark.parametrize("rule", RULES, ids=name_of)
def test_a_rule_uses_metrics_and_labels_that_are_exported(rule: dict[str, Any], exported: Exported):
    use = use_of(rule["expr"])

    assert use.metrics
    known = {OF_BUCKETS}
    for metric in use.metrics:
        if metric in RECORDED:
            known |= use_of(RECORDED[metric]["expr"]).grouped
        else:
            assert metric in exported.labels, f"{metric} is not exported"
            known |= exported.labels_of(metric)
    assert use.grouped <= known
    for metric, label in use.matched:
        assert label in exported.labels_of(metric)


@pytest.mark.parametrize("rule", ALERTS, ids=name_of)
def test_what_an_alert_says_is_filled_in_from_labels_it_has(rule: dict[str, Any]):
    use = use_of(rule["expr"])
    labels = set(use.grouped)
    for metric in use.metrics & RECORDED.keys():
        labels |= use_of(RECORDED[metric]["expr"]).grouped

    for text in rule["annotations"].values():
        assert set(re.findall(r"\$labels\.(\w+)", text)) <= labels - {OF_BUCKETS}
        assert set(re.findall(r"{{.*?}}", text)) == set(re.findall(r"{{ \$(?:labels\.\w+|value(?: \| humanize\w*)?) }}", text))


@pytest.mark.skipif(shutil.which("promtool") is None, reason="Prometheus's own tool is not installed")
@pytest.mark.parametrize("command", [("check", "rules", str(FILE)), ("test", "rules", "alerts_test.yml")], ids=["check", "test"])
def test_prometheus_itself_agrees(command: tuple[str, ...]):
    done = subprocess.run(["promtool", *command], cwd=HERE, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout + done.stderr
