"""What the guide to monitoring says of metrics and alerts is so."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from docket import instrumentation
from tests.monitoring._exported import OF_PROMETHEUS, Exported

DOCS = Path(__file__).parents[2] / "docs"
GUIDE = (DOCS / "monitoring.md").read_text()


def test_it_lists_every_instrument_with_its_labels(exported: Exported):
    rows = re.findall(r"^\| `(docket_\w+)` \| `(docket_\w+)` \| (.*?) \| .* \|$", GUIDE, flags=re.MULTILINE)

    assert {instrument for instrument, _, _ in rows} == {f"docket_{name.lower()}" for name in instrumentation.__all__ if name.isupper()}
    for _, metric, labels in rows:
        found = exported.labels_of(metric if metric in exported.labels else f"{metric}_count") - OF_PROMETHEUS
        told = set(re.findall(r"\b(?:name|task|worker|where|cache)\b", labels))
        assert {label if label == "cache" else f"docket_{label}" for label in told} == found, metric


def test_it_lists_every_alert_with_its_severity():
    loaded: Any = yaml.safe_load((DOCS / "monitoring" / "prometheus-alerts.yml").read_text())
    alerts = {rule["alert"]: rule["labels"]["severity"] for group in loaded["groups"] for rule in group["rules"] if "alert" in rule}

    assert dict(re.findall(r"^\| `(Docket\w+)` \| (\w+) \|", GUIDE, flags=re.MULTILINE)) == alerts
