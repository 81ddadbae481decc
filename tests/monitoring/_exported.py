"""What a worker serves at `/metrics`, read."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass, field

from prometheus_client.parser import text_string_to_metric_families

__all__ = ["Exported", "read"]

# What Prometheus itself adds to every series it scrapes.
OF_PROMETHEUS = frozenset({"instance", "job"})


@dataclass
class Exported:
    """This is every series of docket's own: the labels by the name of the metric, and sums of values."""

    labels: dict[str, set[str]] = field(default_factory=dict[str, set[str]])
    sums: dict[str, float] = field(default_factory=dict[str, float])
    where: set[str] = field(default_factory=set[str])
    """The values of `docket_where`."""

    def labels_of(self, metric: str) -> frozenset[str]:
        return frozenset(self.labels[metric]) | OF_PROMETHEUS

    def add(self, metric: str, labels: Mapping[str, str], value: float) -> None:
        self.labels.setdefault(metric, set()).update(name for name in labels if not name.startswith("otel_scope"))
        self.sums[metric] = self.sums.get(metric, 0) + value
        if "docket_where" in labels:
            self.where.add(labels["docket_where"])


def read(port: int) -> Exported:
    """This reads the metrics that a worker serves now."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as reply:
        text = reply.read().decode()
    exported = Exported()
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            if sample.name.startswith("docket_"):
                exported.add(sample.name, sample.labels, sample.value)
    return exported
