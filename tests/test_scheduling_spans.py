"""The spans of scheduling, and the trace context that goes along."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from docket import Docket, instrumentation

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs it")


async def send(number: int) -> None: ...


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> InMemorySpanExporter:
    exporter = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    # OpenTelemetry takes one provider a process, for good.
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)
    monkeypatch.setattr(instrumentation, "tracer", provider.get_tracer("docket.docket"))
    return exporter


def named(spans: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    finished: Sequence[ReadableSpan] = spans.get_finished_spans()
    return {span.name: span for span in finished}


def span_id(span: ReadableSpan) -> int:
    assert span.context is not None
    return span.context.span_id


async def test_adding_opens_a_span_and_the_run_links_to_it(docket: Docket, spans: InMemorySpanExporter):
    await docket.add(send, key="k", when=timedelta(hours=1))(1)

    span = named(spans)["docket.add"]
    assert span.attributes is not None
    assert {name: value for name, value in span.attributes.items() if name != "docket.when"} == {
        "docket.name": docket.name,
        "docket.task": "send",
        "docket.key": "k",
        "docket.attempt": 1,
        "code.function.name": "send",
        "docket.disposition": "scheduled",
        "messaging.system": "docket",
        "messaging.destination.name": docket.name,
        "messaging.operation.name": "add",
        "messaging.operation.type": "send",
        "messaging.message.id": "k",
    }
    found = await docket.get_execution("k")
    assert found is not None
    assert [link.context.span_id for link in found.incoming_span_links()] == [span_id(span)]


async def test_replacing_and_cancelling_open_spans(docket: Docket, spans: InMemorySpanExporter):
    await docket.replace(send, timedelta(hours=1), "k")(1)
    await docket.cancel("k")

    assert set(named(spans)) == {"docket.replace", "docket.cancel"}
    assert dict(named(spans)["docket.cancel"].attributes or {}) == {"docket.name": docket.name, "docket.key": "k"}


async def test_a_batch_opens_one_span(docket: Docket, spans: InMemorySpanExporter):
    executions = await docket.add_many(docket.call(send)(number) for number in range(3))
    await docket.replace_many([])

    span = named(spans)["docket.add_many"]
    assert dict(span.attributes or {}) == {
        "docket.name": docket.name,
        "docket.batch.count": 3,
        "docket.batch.stricken": 0,
        "messaging.batch.message_count": 3,
        "messaging.system": "docket",
        "messaging.destination.name": docket.name,
        "messaging.operation.name": "add_many",
        "messaging.operation.type": "send",
    }
    assert span.kind is trace.SpanKind.PRODUCER
    found = await docket.get_execution(executions[0].key)
    assert found is not None
    assert [link.context.span_id for link in found.incoming_span_links()] == [span_id(span)]


async def test_without_an_sdk_nothing_is_sent_along(docket: Docket):
    await docket.add(send, key="k")(1)

    found = await docket.get_execution("k")
    assert found is not None
    assert found.trace_context is None
