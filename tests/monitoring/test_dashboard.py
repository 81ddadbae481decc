"""The Grafana dashboard: importable, and about metrics that a worker really exports."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest

from docket import instrumentation
from tests.monitoring._exported import Exported
from tests.monitoring._promql import OF_BUCKETS, use_of

FILE = Path(__file__).parents[2] / "docs" / "monitoring" / "grafana-dashboard.json"
DASHBOARD: dict[str, Any] = json.loads(FILE.read_text())
PANELS: list[dict[str, Any]] = DASHBOARD["panels"]
GRAPHS = [panel for panel in PANELS if panel["type"] != "row"]
VARIABLES = {variable["name"]: variable for variable in DASHBOARD["templating"]["list"]}
UNITS = {"ops", "percentunit", "s", "short"}


def title_of(panel: dict[str, Any]) -> str:
    return f"{panel['id']} {panel['title']}"


def plain(expression: str) -> str:
    """This fills in Grafana's variables, as Grafana does before it asks Prometheus."""
    return re.sub(r"\$(\w+)", lambda found: ".*" if found[1] in VARIABLES else {"__rate_interval": "5m"}[found[1]], expression)


def test_it_can_be_imported():
    [source] = DASHBOARD["__inputs"]
    sources = {panel["datasource"]["uid"] for panel in GRAPHS} | {target["datasource"]["uid"] for panel in GRAPHS for target in panel["targets"]}

    assert (source["type"], source["pluginId"]) == ("datasource", "prometheus")
    assert sources | {variable["datasource"]["uid"] for variable in VARIABLES.values()} == {f"${{{source['name']}}}"}
    assert {panel["type"] for panel in GRAPHS} == {needed["id"] for needed in DASHBOARD["__requires"] if needed["type"] == "panel"}
    assert DASHBOARD["id"] is None
    assert len({panel["id"] for panel in PANELS}) == len(PANELS)


def test_panels_lie_side_by_side():
    places = [panel["gridPos"] for panel in PANELS]

    assert all(place["x"] >= 0 and place["x"] + place["w"] <= 24 for place in places)
    for one, other in combinations(places, 2):
        apart = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        assert apart or one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]


@pytest.mark.parametrize("panel", GRAPHS, ids=title_of)
def test_a_panel_says_what_it_shows(panel: dict[str, Any]):
    assert len(panel["description"]) > 15
    assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
    references = [target["refId"] for target in panel["targets"]]
    assert len(references) == len(set(references)) > 0
    if len(references) > 1:
        assert all(target["legendFormat"] for target in panel["targets"])


@pytest.mark.parametrize("panel", GRAPHS, ids=title_of)
def test_a_panel_uses_metrics_and_labels_that_are_exported(panel: dict[str, Any], exported: Exported):
    for target in panel["targets"]:
        use = use_of(plain(target["expr"]))
        assert use.metrics
        for metric in use.metrics:
            assert metric in exported.labels, f"{metric} is not exported"
        known = frozenset[str]().union(*map(exported.labels_of, use.metrics))
        assert use.grouped <= known | {OF_BUCKETS}
        for metric, label in use.matched:
            assert label in exported.labels_of(metric)
        assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= use.grouped


@pytest.mark.parametrize("name", sorted(VARIABLES))
def test_a_variable_asks_for_a_label_that_is_exported(name: str, exported: Exported):
    asked = re.fullmatch(r"label_values\((.+), (\w+)\)", VARIABLES[name]["query"]["query"])
    assert asked is not None

    use = use_of(plain(asked[1]))

    [metric] = use.metrics
    assert asked[2] in exported.labels_of(metric)
    assert all(label in exported.labels_of(metric) for _, label in use.matched)


def test_every_metric_has_a_place(exported: Exported):
    shown = {metric for panel in GRAPHS for target in panel["targets"] for metric in use_of(plain(target["expr"])).metrics}
    of_histograms = {f"docket_task_{what}_seconds{part}" for what in ("duration", "punctuality") for part in ("_bucket", "_count", "_sum")}

    assert {metric for metric in exported.labels if not metric.endswith("_created")} - of_histograms <= shown


def test_the_worker_has_done_everything(exported: Exported):
    instruments = {f"docket_{name.lower()}" for name in instrumentation.__all__ if name.isupper()}

    for instrument in instruments:
        assert any(metric.startswith(instrument) for metric in exported.labels), f"{instrument} is not exported"
