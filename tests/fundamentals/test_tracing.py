"""Tracing: a run knows the span that scheduled it, whether it runs at once or later."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider

from docket import CurrentExecution, Docket, Execution, Perpetual, Retry, Worker

SOON = timedelta(milliseconds=50)


@pytest.fixture
def tracer(monkeypatch: pytest.MonkeyPatch) -> trace.Tracer:
    """This is what an application that traces itself has set up."""
    provider = TracerProvider()
    monkeypatch.setattr(trace, "get_tracer_provider", lambda: provider)  # OpenTelemetry takes one a process, for good
    return provider.get_tracer("shop")


@pytest.mark.parametrize("when", [None, SOON], ids=["at once", "later"])
async def test_a_run_links_to_the_trace_it_was_scheduled_in(docket: Docket, worker: Worker, tracer: trace.Tracer, when: timedelta | None):
    traces: list[int] = []

    @docket.task
    async def job(execution: Execution[Any] = CurrentExecution(), retry: Retry = Retry(attempts=2, delay=SOON)) -> None:
        traces.extend(link.context.trace_id for link in execution.incoming_span_links())
        if retry.attempt == 1:
            raise RuntimeError("not yet")

    with tracer.start_as_current_span("checkout") as span:
        await job.schedule(when=when)
    await worker.run_until_finished()

    assert traces == [span.get_span_context().trace_id] * 2  # of both attempts


async def test_the_links_of_a_chain_keep_it(docket: Docket, worker: Worker, tracer: trace.Tracer):
    traces: list[int] = []

    @docket.task
    @Perpetual(every=timedelta(0))
    async def beat(execution: Execution[Any] = CurrentExecution()) -> None:
        traces.extend(link.context.trace_id for link in execution.incoming_span_links())

    with tracer.start_as_current_span("startup") as span:
        await beat.schedule(key="k")
    await worker.run_at_most({"k": 2})

    assert traces == [span.get_span_context().trace_id] * 2
