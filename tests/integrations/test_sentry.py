"""The Sentry integration: what is sent, seen by a transport that records."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Generator
from datetime import timedelta
from typing import Annotated, Any

import pytest
import sentry_sdk
from opentelemetry import trace
from sentry_sdk.envelope import Envelope
from sentry_sdk.transport import Transport

from docket import Discard, Docket, Execution, ExecutionCancelled, Logged, Retry
from docket._context import onlookers
from docket.dependencies import Dependency, FailureHandler, TaskOutcome
from docket.integrations.sentry import DocketIntegration
from tests._telemetry import traced
from tests._waiting import eventually
from tests.worker._hands import at_work

SOON = timedelta(seconds=20)


class Recorder(Transport):
    """This keeps what is sent."""

    def __init__(self) -> None:
        super().__init__()
        self.sent: list[dict[str, Any]] = []

    def capture_envelope(self, envelope: Envelope) -> None:
        for item in envelope.items:
            if item.payload.json is not None:
                self.sent.append(item.payload.json)

    @property
    def events(self) -> list[dict[str, Any]]:
        return [sent for sent in self.sent if sent.get("type") != "transaction"]

    @property
    def transactions(self) -> list[dict[str, Any]]:
        return [sent for sent in self.sent if sent.get("type") == "transaction"]

    def one(self) -> dict[str, Any]:
        assert len(self.events) == 1, [event.get("logentry") or event["exception"] for event in self.events]
        return self.events[0]


@pytest.fixture
def sentry(request: pytest.FixtureRequest) -> Generator[Recorder, None, None]:
    """This is a Sentry with docket's integration; a test may say what else it is told."""
    recorder = Recorder()
    options: dict[str, Any] = {"integrations": [DocketIntegration()], **getattr(request, "param", {})}
    with sentry_sdk.isolation_scope():
        former = sentry_sdk.get_global_scope().client
        sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=recorder, **options)
        DocketIntegration.setup_once()  # which Sentry does once in a process
        yield recorder
        sentry_sdk.get_global_scope().set_client(former)
    del onlookers[DocketIntegration.identifier]


class Failed(Exception):
    pass


async def ended(execution: Execution[Any]) -> None:
    with pytest.raises(Exception):  # noqa: B017 - how does not matter here
        await execution.get_result(timeout=SOON)


async def test_a_run_that_failed_is_reported_once_with_what_is_known_of_it(docket: Docket, sentry: Recorder):
    @docket.task
    async def charge(customer: Annotated[int, Logged()], card: str) -> None:
        sentry_sdk.set_tag("mine", "too")
        raise Failed("declined")

    async with at_work(docket) as worker:
        await ended(await docket.add(charge, key="k")(5, card="4111"))

    event = sentry.one()
    [exception] = event["exception"]["values"]
    assert (exception["type"], exception["value"], event["level"]) == ("Failed", "declined", "error")
    assert exception["mechanism"] == {"type": "docket", "handled": False}
    assert event["tags"] == {"docket.name": docket.name, "docket.task": "charge", "docket.key": "k", "mine": "too"}
    told = event["contexts"]["docket"]
    assert told["call"] == "charge(5, card=...){k}"
    assert (told["attempt"], told["worker"], told["redelivered"]) == (1, worker.name, False)
    assert event["transaction"] == "charge"


async def test_arguments_stand_nowhere_but_in_the_frames_of_the_task_itself(docket: Docket, sentry: Recorder):
    secret = f"{4111}-{1111}"  # which does not stand in the lines of source that go with a frame

    @docket.task
    async def charge(card: str) -> None:
        raise Failed("declined")

    async with at_work(docket):
        await ended(await docket.add(charge)(card=secret))

    event = sentry.one()
    for exception in event["exception"]["values"]:
        for frame in exception["stacktrace"]["frames"]:
            if frame["function"] == "charge":
                assert secret in str(frame.pop("vars"))
    assert secret not in str(event)


@pytest.mark.parametrize("sentry", [{"default_integrations": False}], indirect=True)
async def test_it_does_not_depend_on_sentrys_other_integrations(docket: Docket, sentry: Recorder):
    @docket.task
    def fails() -> None:
        raise Failed("in a thread")

    async with at_work(docket):
        await ended(await docket.add(fails)())

    assert sentry.one()["exception"]["values"][0]["value"] == "in a thread"


async def test_attempts_that_are_tried_again_are_not_reported(docket: Docket, sentry: Recorder):
    @docket.task
    async def fails(retry: Retry = Retry(attempts=3)) -> None:
        raise Failed(f"attempt {retry.attempt}")

    async with at_work(docket):
        await ended(await docket.add(fails)())

    assert sentry.one()["exception"]["values"][0]["value"] == "attempt 3"


@pytest.mark.parametrize("sentry", [{"integrations": [DocketIntegration(report_retries=True)]}], indirect=True)
async def test_they_are_if_that_is_asked_for(docket: Docket, sentry: Recorder):
    @docket.task
    async def fails(retry: Retry = Retry(attempts=3)) -> None:
        raise Failed(f"attempt {retry.attempt}")

    async with at_work(docket):
        await ended(await docket.add(fails)())

    assert [(event["level"], event["exception"]["values"][0]["value"]) for event in sentry.events] == [
        ("warning", "attempt 1"),
        ("warning", "attempt 2"),
        ("error", "attempt 3"),
    ]


async def test_what_is_no_failure_is_not_reported(docket: Docket, sentry: Recorder):
    class DealsWithIt(FailureHandler):
        async def handle_failure(self, execution: Execution[Any], outcome: TaskOutcome) -> bool:
            return True

    @docket.task
    async def dealt_with(handler: DealsWithIt = DealsWithIt()) -> None:
        raise Failed("as expected")

    @docket.task
    async def cancelled() -> None:
        raise asyncio.CancelledError

    @docket.task
    async def fine() -> None: ...

    async with at_work(docket):
        await ended(await docket.add(dealt_with)())
        with pytest.raises(ExecutionCancelled):
            await (await docket.add(cancelled)()).get_result(timeout=SOON)
        await (await docket.add(fine)()).get_result(timeout=SOON)

    assert sentry.sent == []


async def test_a_run_that_gave_up_is_a_warning(docket: Docket, sentry: Recorder):
    @docket.task
    async def gives_up() -> None:
        raise Discard("no such customer")

    async with at_work(docket):
        await ended(await docket.add(gives_up)())

    assert sentry.one()["level"] == "warning"


async def test_what_surrounds_a_run_is_reported_with_it(docket: Docket, sentry: Recorder):
    class Broken(Dependency):
        def for_run(self, execution: Execution[Any]) -> Any:
            raise Failed("around the run")

    @docket.task
    async def fails(broken: Any = Broken()) -> None: ...

    async with at_work(docket):
        await ended(await docket.add(fails, key="k")())

    event = sentry.one()
    assert event["exception"]["values"][-1]["value"] == "around the run"
    assert event["tags"]["docket.key"] == "k"


async def test_runs_that_go_on_at_once_keep_apart(docket: Docket, sentry: Recorder):
    tagged: list[int] = []

    @docket.task
    async def fails(number: int) -> None:
        sentry_sdk.set_tag("number", number)
        sentry_sdk.add_breadcrumb(message=f"crumb {number}")
        tagged.append(number)
        await eventually(lambda: len(tagged) == 2)
        raise Failed(str(number))

    async with at_work(docket):
        executions = [await docket.add(fails)(number) for number in (1, 2)]
        for execution in executions:
            await ended(execution)

    for event in sentry.events:
        number = event["exception"]["values"][0]["value"]
        crumbs = [crumb["message"] for crumb in event["breadcrumbs"]["values"] if crumb["message"].startswith("crumb")]
        assert (str(event["tags"]["number"]), crumbs) == (number, [f"crumb {number}"])
    assert len(sentry.events) == 2
    assert "number" not in sentry_sdk.get_isolation_scope()._tags  # pyright: ignore[reportPrivateUsage]


async def test_what_a_worker_logs_of_its_own_is_reported_as_logged(docket: Docket, sentry: Recorder):
    logging.getLogger("docket.worker").error("The worker's %s failed and will be tried again", "mover")

    assert sentry.one()["logentry"]["message"] == "The worker's %s failed and will be tried again"


@pytest.mark.parametrize("sentry", [{"traces_sample_rate": 1.0}], indirect=True)
async def test_a_run_is_a_transaction_of_the_trace_it_was_scheduled_in(docket: Docket, sentry: Recorder, monkeypatch: pytest.MonkeyPatch):
    @docket.task
    async def fails() -> None:
        raise Failed("declined")

    @docket.task
    async def fine() -> None: ...

    with traced(monkeypatch):
        async with at_work(docket):
            with trace.get_tracer_provider().get_tracer("test").start_as_current_span("view") as view:
                execution = await docket.add(fails)()
            await ended(execution)
            await (await docket.add(fine)()).get_result(timeout=SOON)

    trace_id = f"{view.get_span_context().trace_id:032x}"
    failed, well = sentry.transactions
    assert sentry.one()["contexts"]["trace"]["trace_id"] == failed["contexts"]["trace"]["trace_id"] == trace_id
    assert (failed["transaction"], failed["contexts"]["trace"]["op"], failed["contexts"]["trace"]["status"]) == ("fails", "queue.process", "internal_error")
    assert (well["transaction"], well["contexts"]["trace"]["status"]) == ("fine", "ok")


async def test_without_the_integration_nothing_is_captured(docket: Docket, sentry: Recorder):
    @docket.task
    async def fails() -> None:
        raise Failed("declined")

    sentry_sdk.init(dsn="https://key@sentry.invalid/1", transport=sentry, default_integrations=False)
    async with at_work(docket):
        await ended(await docket.add(fails)())

    assert sentry.sent == []


async def test_a_run_goes_on_although_what_looks_on_fails(docket: Docket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    class Broken:
        def began(self, execution: Execution[Any]) -> None:
            raise RuntimeError("a bug")

        def failed(self, execution: Execution[Any], exception: BaseException, became: str) -> None:
            raise RuntimeError("a bug")

        def left(self, execution: Execution[Any]) -> None:
            raise RuntimeError("a bug")

    async def fine() -> str:
        return "fine"

    monkeypatch.setitem(onlookers, "broken", Broken())
    async with at_work(docket):
        assert await (await docket.add(fine)()).get_result(timeout=SOON) == "fine"

    assert "What looks on while" in caplog.text
