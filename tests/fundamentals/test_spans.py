"""The span of a run: its name, kind and attributes, the link to whoever scheduled it, and how it ends."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import timedelta

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.trace import SpanKind, StatusCode

from docket import Cancel, ConcurrencyLimit, Discard, Docket, ExecutionCancelled, Perpetual, Retry, Worker
from tests._telemetry import Spans, metered, traced
from tests._waiting import eventually
from tests.worker._hands import at_work

SOON = timedelta(milliseconds=20)


@pytest.fixture
def spans(monkeypatch: pytest.MonkeyPatch) -> Iterator[Spans]:
    with traced(monkeypatch) as spans:
        yield spans


def context_of(span: ReadableSpan) -> trace.SpanContext:
    context = span.get_span_context()
    assert context is not None
    return context


def linked(span: ReadableSpan) -> list[int]:
    return [link.context.span_id for link in span.links]


async def fine() -> None: ...


async def test_a_run_is_a_span_of_a_trace_of_its_own_that_links_to_its_scheduler(docket: Docket, spans: Spans):
    await docket.add(fine, key="k")()

    async with Worker(docket, name="w") as worker:
        await worker.run_until_finished()

    run, added = spans.one("fine"), spans.one("docket.add")
    assert run.kind is SpanKind.CONSUMER
    assert added.kind is SpanKind.PRODUCER
    assert run.parent is None
    assert context_of(run).trace_id != context_of(added).trace_id
    assert linked(run) == [context_of(added).span_id]
    attributes = dict(run.attributes or {})
    assert str(attributes.pop("docket.when"))
    assert attributes == {
        "docket.name": docket.name,
        "docket.worker": "w",
        "docket.task": "fine",
        "docket.key": "k",
        "docket.attempt": 1,
        "code.function.name": "fine",
        "messaging.system": "docket",
        "messaging.destination.name": docket.name,
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.message.id": "k",
        "messaging.consumer.group.name": "docket-workers",
        "messaging.client.id": "w",
    }
    assert run.status.status_code is StatusCode.OK


async def test_what_the_body_does_is_inside_the_span(docket: Docket, worker: Worker, spans: Spans):
    @docket.task
    async def outer() -> None:
        with trace.get_tracer_provider().get_tracer("shop").start_as_current_span("inner"):
            await docket.add(fine)()

    await outer.schedule()
    await worker.run_until_finished()

    run, inner = spans.one("outer"), spans.one("inner")
    assert inner.parent is not None
    assert inner.parent.span_id == context_of(run).span_id
    added = spans.named("docket.add")[-1]
    assert context_of(added).trace_id == context_of(run).trace_id
    assert linked(spans.one("fine")) == [context_of(added).span_id]


async def test_a_function_in_a_thread_is_inside_it_too(docket: Docket, worker: Worker, spans: Spans):
    seen: list[int] = []

    @docket.task
    def synchronous() -> None:
        seen.append(trace.get_current_span().get_span_context().span_id)

    await synchronous.schedule()
    await worker.run_until_finished()

    assert seen == [context_of(spans.one("synchronous")).span_id]


async def test_each_attempt_has_its_span_and_links_to_the_scheduler(docket: Docket, worker: Worker, spans: Spans):
    async def fails(retry: Retry = Retry(attempts=2, delay=SOON)) -> None:
        raise RuntimeError("no")

    await docket.add(fails, when=SOON)()
    await worker.run_until_finished()

    attempts = spans.named("fails")
    assert [(span.attributes or {})["docket.attempt"] for span in attempts] == [1, 2]
    assert [linked(span) for span in attempts] == [[context_of(spans.one("docket.add")).span_id]] * 2
    for span in attempts:
        assert (span.status.status_code, span.status.description) == (StatusCode.ERROR, "RuntimeError: no")
        assert (span.attributes or {})["error.type"] == "RuntimeError"
        assert [event.name for event in span.events] == ["exception"]


async def test_links_of_a_chain_and_replacements_keep_theirs(docket: Docket, worker: Worker, spans: Spans):
    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat() -> None: ...

    await beat.schedule(key="k")
    await worker.run_at_most({"k": 2})
    await docket.add(fine, when=timedelta(hours=1), key="r")()
    await docket.replace(fine, SOON, "r")()
    await worker.run_until_finished()

    assert [linked(span) for span in spans.named("beat")] == [[context_of(spans.named("docket.add")[0]).span_id]] * 2
    assert linked(spans.one("fine")) == [context_of(spans.one("docket.replace")).span_id]


async def test_cancelled_runs_end_well(docket: Docket, spans: Spans):
    running = asyncio.Event()

    @docket.task
    async def waits() -> None:
        running.set()
        await asyncio.sleep(3600)

    execution = await waits.schedule(key="k")
    async with at_work(docket):
        await running.wait()
        await docket.cancel("k")
        with pytest.raises(ExecutionCancelled):
            await execution.get_result()
        await eventually(lambda: spans.named("waits"))

    assert spans.one("waits").status.status_code is StatusCode.OK


async def test_verdicts_end_well_but_for_a_discard(docket: Docket, worker: Worker, spans: Spans):
    async def stops() -> None:
        raise Cancel("enough")

    async def discarded() -> None:
        raise Discard("no use")

    await docket.add(stops)()
    await docket.add(discarded)()
    await worker.run_until_finished()

    assert spans.one("stops").status.status_code is StatusCode.OK
    assert spans.one("discarded").status.status_code is StatusCode.ERROR


async def test_a_run_that_is_parked_ends_its_span_well(docket: Docket, spans: Spans):
    first, go = asyncio.Event(), asyncio.Event()

    async def limited(limit: ConcurrencyLimit = ConcurrencyLimit(1)) -> None:
        first.set()
        await go.wait()

    async with at_work(docket):
        one = await docket.add(limited)()
        await first.wait()
        other = await docket.add(limited)()
        await eventually(lambda: spans.named("limited"))
        assert spans.one("limited").status.status_code is not StatusCode.ERROR
        go.set()
        await one.get_result()
        await other.get_result()


async def test_a_task_that_cannot_be_called_is_a_span_that_says_so(docket: Docket, worker: Worker, spans: Spans):
    async def needs(number: int) -> None: ...

    docket.register(needs)
    execution = await docket.add("needs")(1)
    async with docket.redis() as redis:
        await redis.execute_command("HSET", docket.store.keys.run(execution.key), "payload", "garbage")
    await worker.run_until_finished()

    assert spans.one("needs").status.status_code is StatusCode.ERROR


async def test_a_duty_is_a_span_only_where_asked(docket: Docket, spans: Spans):
    await docket.add(fine)()
    async with Worker(docket) as worker:
        await worker.run_until_finished()
    assert {span.name for span in spans.all()} == {"docket.add", "fine"}

    async with at_work(docket, enable_internal_instrumentation=True):
        await eventually(lambda: spans.named("docket.worker: mover"))


async def test_durations_are_recorded_inside_the_span(docket: Docket, worker: Worker, spans: Spans, monkeypatch: pytest.MonkeyPatch):
    with metered(monkeypatch) as recorded:
        await docket.add(fine)()
        await worker.run_until_finished()

    assert spans.one("fine").status.status_code is StatusCode.OK
    assert recorded.total("docket_task_duration") == recorded.total("docket_task_punctuality") == 1
