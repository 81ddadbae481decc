"""What an execution tells before anybody has run it. Results of runs stand in the tests of the worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from datetime import datetime, timedelta, timezone
from typing import Annotated, Any

import pytest

from docket import Docket, Execution, ExecutionCancelled, ExecutionProgress, ExecutionState, ExecutionSuperseded, Logged
from docket._store.inspection import Inspection
from docket.errors import InvalidOption, ResultUnavailable
from docket.execution import ProgressEvent, StateEvent

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs it")

SOON = timedelta(hours=1)


async def send(customer_id: Annotated[int, Logged], name: str = "", *rest: Annotated[int, Logged()], **more: Any) -> None: ...


class TestGettingOne:
    async def test_what_is_scheduled_is_read_back(self, docket: Docket):
        asked = await docket.add(send, when=SOON, key="k")(1, name="Jane")

        found = await docket.get_execution("k")

        assert found is not None
        assert (found.args, found.kwargs, found.function, found.function_name) == ((1,), {"name": "Jane"}, send, "send")
        assert (found.state, found.generation, found.when, found.attempt) == (ExecutionState.SCHEDULED, asked.generation, asked.when, 1)
        assert (found.worker, found.started_at, found.completed_at, found.error, found.redelivered) == (None, None, None, None, False)

    async def test_a_task_under_an_alias_keeps_its_alias(self, docket: Docket):
        docket.register(send, names=["alias"])
        await docket.add("alias", key="k")(1)

        found = await docket.get_execution("k")

        assert found is not None
        assert (found.function_name, found.function) == ("alias", send)

    async def test_a_task_that_is_not_registered_here_is_read_too(self, docket: Docket):
        await docket.add("elsewhere", key="k")(1)

        found = await docket.get_execution("k")

        assert found is not None
        assert found.call_repr() == "elsewhere(...){k}"

    async def test_a_key_that_nothing_is_known_of_gives_none(self, docket: Docket):
        assert await docket.get_execution("k") is None
        assert await docket.cancel("k") is None


class TestTelling:
    def execution(self, *args: Any, **kwargs: Any) -> Execution:
        return Execution(Docket(), send, args, kwargs, "k", datetime(2030, 1, 1, tzinfo=timezone.utc), 2)

    def test_a_call_is_printed_with_the_values_that_may_be_logged(self):
        assert self.execution(1, "secret", 3, name="secret").call_repr() == "send(1, ..., 3, name=...){k}"
        assert self.execution(customer_id=1, other="secret").call_repr() == "send(customer_id=1, other=...){k}"

    def test_an_argument_is_found_by_the_name_of_its_parameter(self):
        execution = self.execution(1, name="Jane")

        assert (execution.get_argument("customer_id"), execution.get_argument("name")) == (1, "Jane")
        with pytest.raises(KeyError):
            execution.get_argument("nothing")

    def test_labels_tell_the_task_and_the_run(self):
        execution = self.execution(1)

        assert execution.general_labels() == {"docket.task": "send"}
        assert execution.specific_labels() == {"docket.task": "send", "docket.key": "k", "docket.when": "2030-01-01T00:00:00+00:00", "docket.attempt": 2}
        assert repr(execution) == "<Execution send{k} scheduled, generation 0>"

    def test_the_trace_context_links_to_the_span_that_scheduled(self):
        trace = "0af7651916cd43dd8448eb211c80319c"
        carrier = {"traceparent": f"00-{trace}-b7ad6b7169203331-01"}
        execution = Execution(Docket(), send, (), {}, "k", None, 1, trace_context=carrier)

        assert [f"{link.context.trace_id:032x}" for link in execution.incoming_span_links()] == [trace]
        assert execution.trace_context == carrier
        assert self.execution().incoming_span_links() == []

    def test_a_time_can_be_changed(self):
        execution = self.execution()
        execution.when += SOON

        assert execution.due == datetime(2030, 1, 1, 1, tzinfo=timezone.utc)


class TestWaiting:
    async def test_a_result_that_does_not_come_in_time_is_a_timeout_of_both_kinds(self, docket: Docket):
        execution = await docket.add(send, key="k")(1)

        with pytest.raises(TimeoutError, match="Timeout waiting for execution k to complete") as caught:
            await execution.get_result(timeout=timedelta(milliseconds=10))
        assert isinstance(caught.value, asyncio.TimeoutError)
        with pytest.raises(TimeoutError):
            await execution.get_result(deadline=datetime.now(timezone.utc) + timedelta(milliseconds=10))

    async def test_a_deadline_is_aware_and_there_is_only_one_limit(self, docket: Docket):
        execution = await docket.add(send, key="k")(1)

        with pytest.raises(ValueError, match="deadline is .* without a time zone"):
            await execution.get_result(deadline=datetime(2030, 1, 1))
        with pytest.raises(InvalidOption, match="Cannot specify both timeout and deadline"):
            await execution.get_result(timeout=SOON, deadline=datetime.now(timezone.utc))

    async def test_a_cancelled_execution_has_no_result(self, docket: Docket):
        execution = await docket.add(send, when=SOON, key="k")(1)
        await docket.cancel("k")

        with pytest.raises(ExecutionCancelled, match="Execution k was cancelled"):
            await execution.get_result()

    async def test_a_waiter_learns_of_a_cancellation(self, docket: Docket):
        execution = await docket.add(send, when=SOON, key="k")(1)
        waiting = asyncio.create_task(execution.get_result())
        await asyncio.sleep(0.05)

        await docket.cancel("k")

        with pytest.raises(ExecutionCancelled):
            await asyncio.wait_for(waiting, 2)

    async def test_a_replaced_execution_has_no_result(self, docket: Docket):
        execution = await docket.add(send, when=SOON, key="k")(1)
        waiting = asyncio.create_task(execution.get_result())
        await asyncio.sleep(0.05)

        await docket.replace(send, SOON, "k")(2)

        with pytest.raises(ExecutionSuperseded, match="Execution k was replaced"):
            await asyncio.wait_for(waiting, 2)
        with pytest.raises(ExecutionSuperseded):
            await execution.get_result()
        assert await execution.is_superseded()

    async def test_an_execution_that_nothing_is_known_of_has_no_result(self, docket: Docket):
        execution = Execution(docket, send, (1,), {}, "k", None, 1, generation=5)

        await execution.sync()
        assert not await execution.is_superseded()
        with pytest.raises(ResultUnavailable, match="execution_ttl"):
            await execution.get_result()

    async def test_nothing_is_kept_without_a_time_to_keep_it(self, docket_name: str, url: str):
        async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket:
            execution = await docket.add(send, when=SOON, key="k")(1)
            waiting = asyncio.create_task(execution.get_result())
            await asyncio.sleep(0.05)
            await docket.cancel("k")

            with pytest.raises(ExecutionCancelled):
                await asyncio.wait_for(waiting, 2)
            assert await execution.get_result() is None

    async def test_an_end_that_nobody_kept_or_heard_of_gives_none(self, docket_name: str, url: str, monkeypatch: pytest.MonkeyPatch):
        load = Inspection.load

        async def load_before_the_end(self: Inspection, key: str) -> Any:
            record = await load(self, key)
            await docket.cancel(key)
            return record

        async with Docket(docket_name, url, execution_ttl=timedelta(0)) as docket:
            execution = await docket.add(send, when=SOON, key="k")(1)
            monkeypatch.setattr(Inspection, "load", load_before_the_end)

            assert await execution.get_result() is None

    @pytest.mark.parametrize("kept", [0, 60])
    async def test_an_end_while_the_waiter_subscribes_is_not_missed(self, docket_name: str, url: str, kept: int, monkeypatch: pytest.MonkeyPatch):
        loads = 0
        load = Inspection.load

        async def load_after_the_end(self: Inspection, key: str) -> Any:
            nonlocal loads
            loads += 1
            if loads == 2:
                await docket.cancel(key)
                await asyncio.sleep(0.05)
            return await load(self, key)

        async with Docket(docket_name, url, execution_ttl=timedelta(seconds=kept)) as docket:
            execution = await docket.add(send, when=SOON, key="k")(1)
            monkeypatch.setattr(Inspection, "load", load_after_the_end)

            with pytest.raises(ExecutionCancelled):
                await execution.get_result()


async def _until_scheduled(events: AsyncGenerator[StateEvent | ProgressEvent, None]) -> AsyncGenerator[StateEvent | ProgressEvent, None]:
    async for event in events:
        yield event
        if event["type"] == "state" and event["state"] is ExecutionState.SCHEDULED:
            return


class TestSubscribing:
    async def test_the_first_events_tell_state_and_progress_in_full(self, docket: Docket):
        execution = await docket.add(send, when=SOON, key="k")(1)
        events = execution.subscribe()

        state, progress = await anext(events), await anext(events)

        assert state == {
            "type": "state",
            "key": "k",
            "state": ExecutionState.SCHEDULED,
            "when": execution.when.isoformat(),
            "worker": None,
            "started_at": None,
            "completed_at": None,
            "error": None,
        }
        assert progress == {"type": "progress", "key": "k", "current": None, "total": 100, "message": None, "updated_at": None}
        await events.aclose()

    async def test_changes_follow_and_none_is_missed(self, docket: Docket):
        execution = await docket.add(send, when=SOON, key="k")(1)
        ready = asyncio.Event()
        events = execution.subscribe(ready=ready)
        await anext(events)
        await anext(events)
        await docket.cancel("k")  # between the first events and the subscription

        state = await anext(events)

        assert ready.is_set()
        assert state["type"] == "state"
        assert state["state"] is ExecutionState.CANCELLED
        assert state["completed_at"] is not None
        await docket.add(send, when=SOON, key="k")(1)
        states = [event["state"] async for event in _until_scheduled(events) if event["type"] == "state"]
        assert states == [ExecutionState.SCHEDULED]
        await events.aclose()

    async def test_an_execution_that_is_not_scheduled_has_no_progress(self, docket: Docket):
        execution = Execution(docket, send, (1,), {}, "k", None, 1)
        events = execution.subscribe()

        assert (await anext(events))["type"] == "state"
        progress = await anext(events)
        assert progress["type"] == "progress"
        assert (progress["current"], progress["total"]) == (None, 1)
        await docket.add(send, when=SOON, key="k")(1)
        assert {(await anext(events))["type"], (await anext(events))["type"]} == {"state", "progress"}
        await events.aclose()


class TestProgress:
    async def test_progress_takes_whole_amounts_of_at_least_one(self, docket: Docket):
        progress = await ExecutionProgress.create(docket, "k")

        with pytest.raises(ValueError, match="Total must be at least 1"):
            await progress.set_total(0)
        with pytest.raises(ValueError, match="Amount must be at least 1"):
            await progress.increment(0)

    async def test_progress_of_a_task_that_does_not_run_goes_nowhere(self, docket: Docket):
        await docket.add(send, when=SOON, key="k")(1)
        progress = await ExecutionProgress.create(docket, "k")

        await progress.increment()
        await progress.set_total(5)
        await progress.set_message("half way")

        assert (progress.current, progress.total, progress.message, progress.updated_at) == (None, 100, None, None)

    async def test_a_subscription_needs_nobody_to_be_told_that_it_is_ready(self, docket: Docket):
        events = ExecutionProgress(docket, "k").subscribe()
        assert (await anext(events))["total"] == 1
        await docket.add(send, when=SOON, key="k")(1)

        assert (await anext(events))["total"] == 100
        await events.aclose()

    async def test_a_subscription_starts_with_the_progress_as_it_stands(self, docket: Docket):
        await docket.add(send, when=SOON, key="k")(1)
        events = ExecutionProgress(docket, "k").subscribe()

        assert await anext(events) == {"type": "progress", "key": "k", "current": None, "total": 100, "message": None, "updated_at": None}
        await events.aclose()


class TestDocket:
    async def test_a_docket_gives_a_client_for_commands_of_ones_own(self, docket: Docket):
        async with docket.redis() as client:
            await client.execute_command("SET", docket.key("mine"), "value", "PX", 1000)
            assert await client.execute_command("GET", docket.key("mine")) == b"value"

    def test_a_docket_tells_its_names(self):
        docket = Docket("orders")

        assert (docket.prefix, docket.worker_group_name, docket.results_collection) == ("{orders}:", "docket-workers", "{orders}:results")
        assert docket.labels() == {"docket.name": "orders"}
        assert repr(docket) == "<Docket 'orders'>"
