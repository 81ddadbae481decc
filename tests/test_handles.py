"""What a task's handle can do without a worker: be called, be inspected, schedule itself."""

from __future__ import annotations

import asyncio
import functools
import inspect
import logging
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

import docket as package
from docket import Depends, Disposition, Docket, ExecutionState, Perpetual, Scheduler, SyncTask, Task, TaskKey
from docket._store.records import Announcement
from docket._store.workers import WorkersStore
from docket.errors import (
    DependencyNotGiven,
    InvalidArguments,
    InvalidOption,
    InvalidSchedule,
    NoDocket,
    NotEntered,
    NotSerializable,
    RedisUnavailable,
    UnknownTask,
)

pytestmark = pytest.mark.leaves_keys("work is scheduled here, and no worker runs it")

SOON = timedelta(hours=1)


def connect() -> str:
    return "connection"


async def greet(customer_id: int, name: str = "Jane") -> str:
    """This greets."""
    return f"{customer_id}: {name}"


def resize(width: int) -> int:
    return width * 2


async def with_dependencies(customer_id: int, db: str = Depends(connect), key: str = TaskKey()) -> str:
    return f"{customer_id} {db} {key}"


class TestCalling:
    async def test_a_handle_calls_as_the_function_it_wraps(self):
        task = Docket().task(greet)

        assert await task(1, name="John") == "1: John"

    def test_a_handle_of_a_plain_function_returns_its_result(self):
        task = Docket().task(resize)

        assert isinstance(task, SyncTask)
        assert task(4) == 8

    async def test_a_direct_call_names_the_dependencies_it_was_not_given(self):
        task = Docket().task(with_dependencies)

        with pytest.raises(DependencyNotGiven, match=r"'db', 'key'.*testing\.run_task\(with_dependencies"):
            await task(1)

    async def test_a_direct_call_takes_dependencies_that_are_passed(self):
        task = Docket().task(with_dependencies)

        assert await task(1, "other", key="k") == "1 other k"

    def test_a_direct_call_of_a_plain_function_resolves_nothing_either(self):
        @Docket().task
        def load(number: int, db: str = Depends(connect)) -> str:
            return f"{number} {db}"

        with pytest.raises(DependencyNotGiven, match="without 'db'.*Pass it"):
            load(1)
        assert load(1, db="given") == "1 given"


class TestInspection:
    def test_a_handle_is_a_coroutine_function_to_everybody_who_asks(self):
        task = Docket().task(greet)

        assert inspect.iscoroutinefunction(task)
        assert asyncio.iscoroutinefunction(task)

    def test_a_handle_of_a_plain_function_is_not(self):
        task = Docket().task(resize)

        assert not inspect.iscoroutinefunction(task)
        assert not asyncio.iscoroutinefunction(task)

    def test_a_handle_has_the_signature_and_the_name_of_its_function(self):
        task: Any = Docket().task(greet)

        assert inspect.signature(task) == inspect.signature(greet)
        assert (task.__name__, task.__qualname__, task.__module__, task.__doc__) == ("greet", "greet", greet.__module__, "This greets.")
        assert task.function is greet
        assert inspect.unwrap(task) is greet

    def test_a_scheduler_has_the_signature_of_its_function(self):
        scheduler: Any = Docket().add(greet)

        assert inspect.signature(scheduler) == inspect.signature(greet)
        assert scheduler.__name__ == scheduler.name == "greet"
        assert scheduler.function is greet

    def test_everything_shows_its_name(self):
        docket = Docket()

        assert repr(docket.task(greet)) == "<Task greet>"
        assert repr(docket.task(resize)) == "<SyncTask resize>"
        assert repr(docket.add(greet)) == "<Scheduler of greet>"
        assert repr(docket.add("unknown").handle) == "<NamedTask unknown>"

    def test_an_object_with_an_async_call_is_a_coroutine_function(self):
        class Callable:
            async def __call__(self, number: int) -> int:
                return number

        assert isinstance(Docket().task(name="callable")(Callable()), Task)

    def test_a_partial_of_a_coroutine_function_is_one(self):
        task = Docket().task(name="greet-5")(functools.partial(greet, 5))

        assert isinstance(task, Task)
        assert task.name == "greet-5"

    def test_a_function_without_a_name_needs_one(self):
        with pytest.raises(InvalidOption, match=r"docket\.task\(name='\.\.\.'\)"):
            Docket().task(functools.partial(greet, 5))

    def test_a_name_is_not_empty(self):
        with pytest.raises(InvalidOption, match="not empty"):
            Docket().task(name="")(greet)


class TestDeclaring:
    def test_a_task_is_named_after_its_function_or_as_told(self):
        docket = Docket()

        assert docket.task(greet).name == "greet"
        assert docket.task(name="emails.welcome")(greet).name == "emails.welcome"
        assert {"greet", "emails.welcome"} < set(docket.tasks)

    def test_declaring_an_unbound_handle_gives_the_same_handle(self):
        docket = Docket()
        handle = Perpetual(interval=SOON)(greet)

        assert docket.task(handle) is handle
        assert handle.docket is docket

    def test_declaring_an_unbound_handle_under_a_name_names_it(self):
        handle = Perpetual(interval=SOON)(greet)

        assert Docket().task(name="other")(handle) is handle
        assert handle.name == "other"

    def test_another_docket_gets_a_handle_of_its_own(self):
        first, second = Docket(), Docket()
        handle = first.task(Perpetual(interval=SOON)(greet))
        other = second.task(handle)

        assert other is not handle
        assert (handle.docket, other.docket) == (first, second)
        assert other.declared == handle.declared

    def test_a_docket_that_knows_a_handle_of_another_still_gets_one_of_its_own(self):
        first, second = Docket(), Docket()
        handle = first.task(greet)
        second.register(handle)

        assert second.task(greet).docket is second
        assert second.task(handle).docket is second
        assert handle.docket is first

    def test_a_behaviour_above_a_declared_task_joins_it(self):
        docket = Docket()
        handle = docket.task(greet)
        perpetual = Perpetual(interval=SOON)

        assert perpetual(handle) is handle

        registered = docket.registry.get("greet")
        assert registered is not None
        assert registered.declared == (perpetual,)
        assert registered.handle is handle

    def test_a_behaviour_that_does_not_go_with_the_others_leaves_the_task_as_it_was(self):
        docket = Docket()
        first = Perpetual(interval=SOON)
        handle = docket.task(first(greet))

        with pytest.raises(ValueError, match="Only one"):
            Perpetual(interval=SOON)(handle)
        assert handle.declared == (first,)

    def test_a_scheduler_stands_for_its_task_wherever_a_task_is_asked_for(self):
        docket = Docket()
        scheduler = docket.add(greet)

        assert docket.task(scheduler) is scheduler.handle
        assert docket.add(scheduler).handle is scheduler.handle
        assert package.task(scheduler) is scheduler.handle

    def test_the_module_level_decorator_makes_unbound_handles(self):
        assert isinstance(package.task(greet), Task)
        assert isinstance(package.task(resize), SyncTask)

    def test_the_module_level_decorator_takes_a_name(self):
        assert package.task(name="other")(greet).name == "other"

        perpetual = Perpetual(interval=SOON)(greet)
        assert package.task(perpetual) is perpetual
        renamed = package.task(name="other")(perpetual)
        assert (renamed.name, renamed.declared) == ("other", perpetual.declared)


class TestScheduling:
    async def test_a_handle_schedules_itself(self, docket: Docket):
        task = docket.task(greet)
        before = datetime.now(timezone.utc)

        execution = await task.schedule(1, name="Jane", key="welcome-1", when=SOON)

        assert (execution.key, execution.function_name, execution.args, execution.kwargs) == ("welcome-1", "greet", (1,), {"name": "Jane"})
        assert (execution.state, execution.disposition) == (ExecutionState.SCHEDULED, Disposition.SCHEDULED)
        assert before + SOON <= execution.when <= datetime.now(timezone.utc) + SOON

    async def test_a_time_is_a_moment_too(self, docket: Docket):
        tomorrow = datetime.now(timezone.utc) + timedelta(days=1)

        assert (await docket.task(greet).schedule(1, when=tomorrow)).when == tomorrow
        assert docket.call(greet, when=tomorrow)(1).when == tomorrow

    async def test_without_a_time_it_is_queued_at_once(self, docket: Docket):
        execution = await docket.task(greet).schedule(1)

        assert execution.state is ExecutionState.QUEUED
        assert abs(execution.when - datetime.now(timezone.utc)) < timedelta(minutes=1)

    async def test_options_pass_every_argument_through(self, docket: Docket):
        @docket.task
        async def turn(key: str, when: int) -> None: ...

        execution = await turn.options(key="k", when=SOON).schedule(key="of the car", when=5)

        assert execution.key == "k"
        assert execution.kwargs == {"key": "of the car", "when": 5}

    async def test_a_task_with_a_parameter_named_key_says_so_when_it_is_registered(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        @docket.task
        async def turn(key: str, when: int) -> None: ...

        assert "Task 'turn' has a parameter of its own named 'key' and one named 'when'" in caplog.text
        assert "turn.options(key=..., when=...).schedule(...)" in caplog.text
        with pytest.raises(InvalidSchedule, match=r"key= is ambiguous.*turn\.options"):
            await turn.schedule(key="k", when=5)  # pyright: ignore[reportArgumentType]
        assert (await turn.schedule("of the car", 5)).args == ("of the car", 5)

    async def test_a_key_that_a_worker_fills_is_no_parameter_of_the_callers(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        task = docket.task(with_dependencies)

        execution = await task.schedule(1, key="k")

        assert (execution.key, execution.kwargs, caplog.text) == ("k", {}, "")

    async def test_adding_to_a_live_key_changes_nothing_and_says_so(self, docket: Docket):
        task = docket.task(greet)
        first = await task.schedule(1, key="k", when=SOON)

        second = await task.schedule(2, key="k")

        assert second.disposition is Disposition.ALREADY_SCHEDULED
        assert (second.generation, second.state, second.when) == (first.generation, ExecutionState.SCHEDULED, first.when)

    async def test_replacing_makes_a_new_generation(self, docket: Docket):
        task = docket.task(greet)
        first = await task.schedule(1, key="k", when=SOON)

        second = await task.replace(2, key="k", when=2 * SOON)

        assert second.disposition is Disposition.SCHEDULED
        assert second.generation > first.generation
        found = await docket.get_execution("k")
        assert found is not None
        assert found.args == (2,)

    async def test_replacing_a_free_key_is_adding(self, docket: Docket):
        task = docket.task(greet)

        assert (await task.options(key="a").replace(1)).disposition is Disposition.SCHEDULED
        assert (await docket.replace(greet, SOON, "b")(1)).disposition is Disposition.SCHEDULED

    async def test_replacing_needs_a_key(self, docket: Docket):
        with pytest.raises(InvalidSchedule, match="needs the key"):
            await docket.task(greet).options().replace(1)

    async def test_a_handle_cancels(self, docket: Docket):
        task = docket.task(greet)
        execution = await task.schedule(1, key="k", when=SOON)

        await task.cancel("k")

        await execution.sync()
        assert execution.state is ExecutionState.CANCELLED

    async def test_a_call_is_scheduled_later(self, docket: Docket):
        call = docket.task(greet).options(key="k", when=SOON).call(1, name="Jane")

        execution = await docket.schedule(call)

        assert (execution.key, execution.state) == ("k", ExecutionState.SCHEDULED)

    async def test_an_execution_is_scheduled_again(self, docket: Docket):
        execution = await docket.task(greet).schedule(1, key="k", when=SOON)
        due = execution.when
        await docket.cancel("k")

        assert await execution.schedule() is Disposition.SCHEDULED
        assert execution.when == due
        assert await execution.schedule() is Disposition.ALREADY_SCHEDULED
        assert await execution.schedule(replace=True) is Disposition.SCHEDULED


class TestAdd:
    async def test_add_gives_one_object_that_schedules_when_called(self, docket: Docket):
        execution = await docket.add(greet, when=SOON, key="k")(1, "Jane")

        assert (execution.key, execution.state, execution.args) == ("k", ExecutionState.SCHEDULED, (1, "Jane"))

    async def test_what_add_gives_does_what_a_handle_does(self, docket: Docket):
        @docket.add
        @Perpetual(interval=SOON)
        async def monitor(service: str) -> None: ...

        assert isinstance(monitor, Scheduler)
        assert monitor.name == "monitor"
        assert (await monitor.schedule(key="a", service="main")).key == "a"
        assert (await monitor.options(key="b").schedule("main")).key == "b"
        assert (await monitor.replace("main", key="a", when=SOON)).state is ExecutionState.SCHEDULED
        assert monitor.call("main").args == ("main",)
        assert monitor.docket is docket
        await monitor.cancel("a")
        assert (await docket.get_execution("a") or pytest.fail("gone")).state is ExecutionState.CANCELLED

    async def test_a_key_and_a_time_given_to_schedule_win_over_those_given_to_add(self, docket: Docket):
        scheduler = docket.add(greet, when=SOON, key="from add")

        assert (await scheduler.schedule(1)).key == "from add"
        other = await scheduler.schedule(1, key="own", when=2 * SOON)
        assert other.key == "own"
        assert other.when > datetime.now(timezone.utc) + 1.5 * SOON
        assert scheduler.call(1).key == "from add"

    async def test_a_registered_name_schedules_its_function(self, docket: Docket):
        docket.register(greet, names=["hello"])

        execution = await docket.add("hello", key="k")(1)

        assert (execution.function_name, execution.function) == ("hello", greet)
        with pytest.raises(InvalidArguments):
            await docket.add("hello")(1, 2, 3)

    async def test_a_name_that_is_registered_elsewhere_is_written_with_one_warning(self, docket: Docket, caplog: pytest.LogCaptureFixture):
        execution = await docket.add("elsewhere", key="a")(1, anything="goes")
        await docket.add("elsewhere", key="b")()

        assert (execution.function_name, execution.state) == ("elsewhere", ExecutionState.QUEUED)
        warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert [record.name for record in warnings] == ["docket.docket"]
        assert "Task 'elsewhere'" in warnings[0].getMessage()
        with pytest.raises(UnknownTask, match="'elsewhere'"):
            execution.function()
        stand_in = docket.add("elsewhere").handle
        assert (stand_in.function, stand_in.docket) == (stand_in, docket)

    async def test_a_name_that_a_live_worker_knows_is_no_news(self, docket: Docket, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
        async def live(self: WorkersStore, *, since_us: int) -> list[Announcement]:
            return [Announcement("w~1", "w", since_us, frozenset({"elsewhere"}))]

        monkeypatch.setattr(WorkersStore, "live", live)
        await docket.add("elsewhere")()

        assert caplog.text == ""

    async def test_a_name_that_cannot_be_looked_for_is_written_all_the_same(self, docket: Docket, monkeypatch: pytest.MonkeyPatch):
        async def live(self: WorkersStore, *, since_us: int) -> list[Announcement]:
            raise RedisUnavailable("gone")

        monkeypatch.setattr(WorkersStore, "live", live)

        assert (await docket.add("elsewhere")()).disposition is Disposition.SCHEDULED

    async def test_replace_and_call_take_names_too(self, docket: Docket):
        assert (await docket.replace("elsewhere", SOON, "k")(1)).state is ExecutionState.SCHEDULED
        assert docket.call("elsewhere", key="k")(1).function_name == "elsewhere"


class TestRefusals:
    async def test_arguments_that_do_not_bind_are_refused_before_anything_is_written(self, docket: Docket):
        task = docket.task(greet)

        with pytest.raises(InvalidArguments, match=r"greet\(customer_id: int, name: str = 'Jane'\).*customer_id"):
            await task.schedule(key="k")
        with pytest.raises(TypeError):
            await docket.add(greet, key="k")(1, nme="x")  # pyright: ignore[reportCallIssue]
        assert await docket.get_execution("k") is None

    async def test_an_argument_that_cannot_be_pickled_is_named(self, docket: Docket):
        with pytest.raises(NotSerializable, match="argument 'name'"):
            await docket.task(greet).schedule(1, name=(number for number in range(3)), key="k")
        assert await docket.get_execution("k") is None

    @pytest.mark.parametrize("when", [datetime(2030, 1, 1), "tomorrow", 5])
    async def test_a_time_that_is_none_is_refused_with_advice(self, docket: Docket, when: Any):
        with pytest.raises(InvalidSchedule, match=r"timezone\.utc|aware datetime or a timedelta"):
            await docket.task(greet).schedule(1, when=when)
        with pytest.raises(ValueError, match="when is"):
            docket.call(greet, when=when)(1)

    async def test_a_time_beyond_the_calendar_is_refused(self, docket: Docket):
        with pytest.raises(InvalidSchedule, match="beyond the year 9999"):
            await docket.task(greet).schedule(1, when=timedelta.max)

    @pytest.mark.parametrize("key", ["", 5, b"bytes"])
    async def test_a_key_is_a_string_that_is_not_empty(self, docket: Docket, key: Any):
        with pytest.raises(InvalidSchedule, match="key is"):
            await docket.add(greet, key=key)(1)
        with pytest.raises(InvalidSchedule, match="key is"):
            await docket.cancel(key)

    async def test_a_docket_that_is_not_entered_says_what_to_do(self):
        docket = Docket("orders")

        with pytest.raises(NotEntered, match=r"'orders' is not entered.*async with docket"):
            await docket.add(greet)(1)
        with pytest.raises(RuntimeError):
            await docket.task(greet).schedule(1)

    async def test_an_unbound_handle_without_a_docket_says_what_to_do(self):
        with pytest.raises(NoDocket, match=r"task 'greet' names no docket, and no docket is entered.*docket\.add"):
            await package.task(greet).schedule(1)
