"""What tests see of metrics and spans: SDKs of their own, in place of the process's one provider, which OpenTelemetry takes for good."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager

import pytest
from opentelemetry import metrics, trace
from opentelemetry.metrics import Counter, Histogram, UpDownCounter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import HistogramDataPoint, InMemoryMetricReader, NumberDataPoint
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from docket import instrumentation

Labels = dict[str, str]


class Metrics:
    """This is what was recorded: per instrument, per set of labels."""

    def __init__(self, reader: InMemoryMetricReader) -> None:
        self._reader = reader
        self._seen: dict[str, list[tuple[Labels, float]]] = {}

    def _read(self) -> dict[str, list[tuple[Labels, float]]]:
        data = self._reader.get_metrics_data()
        if data is None:
            return self._seen
        for resource in data.resource_metrics:
            for scope in resource.scope_metrics:
                for metric in scope.metrics:
                    self._seen[metric.name] = [_point(point) for point in metric.data.data_points]
        return self._seen

    def of(self, name: str) -> list[tuple[Labels, float]]:
        """This gives what one instrument has recorded: labels and sum (a histogram: how many)."""
        return self._read().get(name, [])

    def total(self, name: str, **labels: str) -> float:
        """This sums what one instrument has recorded under these labels (dots written as underscores)."""
        wanted = {label.replace("_", ".", 1): value for label, value in labels.items()}
        return sum(value for found, value in self.of(name) if wanted.items() <= found.items())

    def names(self) -> set[str]:
        """This names the instruments that have recorded something."""
        return {name for name, points in self._read().items() if points}


def _point(point: object) -> tuple[Labels, float]:
    assert isinstance(point, NumberDataPoint | HistogramDataPoint)
    labels = {name: str(value) for name, value in (point.attributes or {}).items()}
    return labels, point.count if isinstance(point, HistogramDataPoint) else point.value


@contextmanager
def metered(monkeypatch: pytest.MonkeyPatch) -> Generator[Metrics, None, None]:
    """This has docket's instruments record into an SDK of the test's own."""
    reader = InMemoryMetricReader()
    provider = MeterProvider([reader])
    meter = provider.get_meter("docket")
    monkeypatch.setattr(metrics, "get_meter_provider", lambda: provider)
    for name in instrumentation.__all__:
        instrument = getattr(instrumentation, name)
        spelled = f"docket_{name.lower()}"
        if isinstance(instrument, Counter):
            monkeypatch.setattr(instrumentation, name, meter.create_counter(spelled))
        elif isinstance(instrument, UpDownCounter):
            monkeypatch.setattr(instrumentation, name, meter.create_up_down_counter(spelled))
        elif isinstance(instrument, Histogram):
            monkeypatch.setattr(instrumentation, name, meter.create_histogram(spelled))
        elif name.isupper():
            monkeypatch.setattr(instrumentation, name, meter.create_gauge(spelled))
    yield Metrics(reader)
    provider.shutdown()


class Spans:
    """This is every span that has ended."""

    def __init__(self, exporter: InMemorySpanExporter) -> None:
        self._exporter = exporter

    def all(self) -> list[ReadableSpan]:
        return list(self._exporter.get_finished_spans())

    def named(self, name: str) -> list[ReadableSpan]:
        return [span for span in self.all() if span.name == name]

    def one(self, name: str) -> ReadableSpan:
        """This is the only span of that name."""
        found = self.named(name)
        assert len(found) == 1, f"{len(found)} spans are named {name!r}; there are {[span.name for span in self.all()]}"
        return found[0]


@contextmanager
def traced(monkeypatch: pytest.MonkeyPatch) -> Generator[Spans, None, None]:
    """This has docket's tracers record into an SDK of the test's own."""
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(instrumentation, "tracer", provider.get_tracer("docket.docket"))
    monkeypatch.setattr(instrumentation, "worker_tracer", provider.get_tracer("docket.worker"))
    yield Spans(exporter)
    provider.shutdown()
