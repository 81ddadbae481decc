"""Declaring limits: every form, whom they then limit, and what is refused."""

from collections.abc import Callable
from datetime import timedelta
from typing import Annotated, Any

import pytest

from docket import ConcurrencyLimit, Cooldown, Debounce, Depends, Docket, RateLimit, Retry, Worker, dependencies
from docket._store.records import Requirement
from docket.dependencies import AdmissionBlocked, ConcurrencyBlocked, Dependency
from docket.dependencies._limits import Limit
from docket.dependencies._resolution import compile_plan
from docket.errors import InvalidOption
from tests.dependencies._runs import an_execution

SECOND = timedelta(seconds=1)


def required(function: Callable[..., Any], *args: Any, declared: tuple[Dependency, ...] = (), **kwargs: Any) -> list[Requirement]:
    """This is what a run of a task has to pass."""
    plan = compile_plan(function, function.__name__, declared)
    return list(plan.requirements(plan.begin(an_execution(function, *args, **kwargs))))


class TestForms:
    @pytest.mark.parametrize(
        ("limit", "requirement"),
        [
            (ConcurrencyLimit(3), Requirement("concurrency", "task", "3")),
            (ConcurrencyLimit(), Requirement("concurrency", "task", "1")),
            (RateLimit(5, per=SECOND), Requirement("rate", "task", "5", "1000000", "")),
            (RateLimit(5, per=SECOND, drop=True), Requirement("rate", "task", "5", "1000000", "1")),
            (Cooldown(2 * SECOND), Requirement("cooldown", "task", "2000000")),
            (Debounce(timedelta(milliseconds=1.5)), Requirement("debounce", "task", "1500")),
        ],
        ids=repr,
    )
    def test_a_default_a_decorator_and_an_annotation_say_the_same(self, limit: Limit, requirement: Requirement):
        def by_default() -> Callable[..., Any]:
            async def task(customer: int, given: Limit = limit): ...

            return task

        def annotated() -> Callable[..., Any]:
            async def task(customer: Annotated[int, limit], other: int = 0): ...

            return task

        async def task(customer: int): ...

        assert required(by_default(), 7) == [requirement]
        assert required(task, 7, declared=(limit,)) == [requirement]
        assert required(annotated(), 7) == [Requirement(requirement.kind, "task/customer=7", requirement.a, requirement.b, requirement.c)]
        assert required(annotated(), customer=8)[0].identity == "task/customer=8"

    def test_a_decorator_makes_a_handle_that_declares_it(self):
        @RateLimit(2, per=SECOND)
        @ConcurrencyLimit("customer", max_concurrent=2)
        async def task(customer: int, region: str = "eu"): ...

        requirements = required(task.function, 1, declared=tuple(task.declared))

        assert {(each.kind, each.identity) for each in requirements} == {("concurrency", "task/customer=1"), ("rate", "task")}

    def test_a_dependency_may_be_a_limit(self):
        async def task(limit: ConcurrencyLimit = Depends(ConcurrencyLimit, max_concurrent=3)): ...

        assert required(task) == [Requirement("concurrency", "task", "3")]

    def test_a_limit_for_an_argument_has_one_place_unless_told_otherwise(self):
        async def one(a: int, limit: ConcurrencyLimit = ConcurrencyLimit("a")): ...

        async def more(a: int, limit: ConcurrencyLimit = ConcurrencyLimit("a", 4)): ...

        assert (required(one, 1)[0].a, required(more, 1)[0].a) == ("1", "4")

    def test_with_a_scope_tasks_share_a_limit(self):
        async def one(a: Annotated[int, Cooldown(SECOND, scope="mail")], limit: RateLimit = RateLimit(1, per=SECOND, scope="mail")): ...

        async def other(a: Annotated[int, Cooldown(SECOND, scope="mail")], limit: RateLimit = RateLimit(1, per=SECOND, scope="mail")): ...

        assert required(one, 3) == required(other, 3)
        assert {each.identity for each in required(one, 3)} == {"@mail", "@mail/a=3"}

    def test_several_limits_of_several_arguments_act_together(self):
        async def task(a: Annotated[int, RateLimit(1, per=SECOND), Cooldown(SECOND)], b: Annotated[str, RateLimit(2, per=SECOND)] = "x"): ...

        assert [(each.kind, each.identity, each.a) for each in required(task, 1)] == [
            ("rate", "task/a=1", "1"), ("cooldown", "task/a=1", "1000000"), ("rate", "task/b=x", "2")
        ]  # fmt: skip

    def test_a_scope_and_a_task_of_the_same_name_are_two(self):
        async def task(): ...

        assert required(task, declared=(ConcurrencyLimit(1, scope="task"),)) != required(task, declared=(ConcurrencyLimit(1),))

    @pytest.mark.parametrize("value", ["", "a/b=c", "%", "x" * 5000, "½", "\ud800", None, ("a", 1)])
    def test_values_stay_apart_whatever_they_hold(self, value: Any):
        async def task(a: Any, b: Any = None, limit: ConcurrencyLimit = ConcurrencyLimit("a")): ...

        [this], [other] = required(task, value), required(task, (value, "other"))

        assert this.identity != other.identity
        assert len(this.identity) < 400
        assert this.identity.isascii()

    def test_reprs_say_what_was_declared(self):
        limits = [ConcurrencyLimit(2), ConcurrencyLimit("a"), RateLimit(2, per=SECOND), RateLimit(2, per=SECOND, drop=True), Cooldown(SECOND), Debounce(SECOND)]

        assert [repr(limit) for limit in limits] == [
            "ConcurrencyLimit(max_concurrent=2)",
            "ConcurrencyLimit('a', max_concurrent=1)",
            "RateLimit(2, per=datetime.timedelta(seconds=1))",
            "RateLimit(2, per=datetime.timedelta(seconds=1), drop=True)",
            "Cooldown(datetime.timedelta(seconds=1))",
            "Debounce(datetime.timedelta(seconds=1))",
        ]


class TestRefusals:
    @pytest.mark.parametrize("number", [0, -1, 1.5, True])
    def test_a_number_of_runs_is_a_whole_one_of_at_least_one(self, number: Any):
        with pytest.raises(ValueError, match="RateLimit lets .* runs start; give a whole number of at least 1"):
            RateLimit(number, per=SECOND)
        with pytest.raises(ValueError, match="ConcurrencyLimit lets .* give a whole number of at least 1"):
            ConcurrencyLimit(number)
        with pytest.raises(InvalidOption, match="give a whole number of at least 1"):
            ConcurrencyLimit("a", max_concurrent=number)

    def test_and_no_text(self):
        number: Any = "3"
        with pytest.raises(InvalidOption, match="give a whole number of at least 1"):
            RateLimit(number, per=SECOND)
        with pytest.raises(InvalidOption, match="give a whole number of at least 1"):
            ConcurrencyLimit("a", max_concurrent=number)

    def test_two_numbers_are_one_too_many(self):
        with pytest.raises(InvalidOption, match=r"ConcurrencyLimit\(2, max_concurrent=3\) gives two numbers"):
            ConcurrencyLimit(2, max_concurrent=3)

    @pytest.mark.parametrize("duration", [timedelta(0), -SECOND, 5, None])
    def test_a_duration_is_more_than_none(self, duration: Any):
        with pytest.raises(InvalidOption, match=r"RateLimit\(per=...\) is .*; give a timedelta of more than zero"):
            RateLimit(1, per=duration)
        with pytest.raises(ValueError, match=r"Cooldown\(window\) is"):
            Cooldown(duration)
        with pytest.raises(InvalidOption, match=r"Debounce\(settle\) is"):
            Debounce(duration)

    def test_an_argument_that_the_task_does_not_have_is_named_at_registration(self):
        async def task(a: int, b: int): ...

        async def none(): ...

        with pytest.raises(ValueError, match=r"ConcurrencyLimit\('customer', max_concurrent=1\) of task 'task' .* does not have; it has a, b"):
            compile_plan(task, "task", (ConcurrencyLimit("customer"),))
        with pytest.raises(ValueError, match="it has none"):
            compile_plan(none, "none", (ConcurrencyLimit("customer"),))

    def test_an_argument_that_the_worker_gives_is_no_callers(self):
        async def task(a: int, retry: Retry = Retry()): ...

        with pytest.raises(ValueError, match="'retry', which a worker gives"):
            compile_plan(task, "task", (ConcurrencyLimit("retry"),))

    @pytest.mark.parametrize("limit", [ConcurrencyLimit(1), Debounce(SECOND)], ids=repr)
    def test_two_of_one_kind_are_refused_where_one_is_allowed(self, limit: Limit):
        async def task(a: Annotated[int, limit], other: Limit = limit): ...

        with pytest.raises(ValueError, match=rf"Only one {type(limit).__name__} .*parameter 'other'.*annotation of 'a'"):
            compile_plan(task, "task")

    async def test_a_limit_of_the_worker_and_one_of_the_task_fail_that_task(self, docket: Docket):
        @docket.task
        @ConcurrencyLimit(1)
        async def limited() -> None: ...

        asked = await limited.schedule()
        async with Worker(docket, dependencies=[ConcurrencyLimit(2)]) as worker:
            await worker.run_until_finished()

        with pytest.raises(Exception, match="Only one ConcurrencyLimit"):
            await asked.get_result()


class TestTheBody:
    async def test_it_learns_whom_it_shares_its_places_with(self, docket: Docket, worker: Worker):
        @docket.task
        @ConcurrencyLimit("customer", max_concurrent=2)
        async def of_a_customer(customer: str, limit: ConcurrencyLimit = Depends(ConcurrencyLimit)) -> str:
            return limit.concurrency_key

        @docket.task
        async def of_a_scope(limit: ConcurrencyLimit = ConcurrencyLimit(1, scope="mail & more")) -> str:
            return limit.concurrency_key

        asked = [await of_a_customer.schedule("a b"), await of_a_scope.schedule()]
        await worker.run_until_finished()

        assert [await each.get_result() for each in asked] == ["of_a_customer/customer=a%20b", "@mail%20%26%20more"]

    def test_outside_a_run_there_is_nobody_to_name(self):
        with pytest.raises(RuntimeError, match=r"ConcurrencyLimit\(max_concurrent=1\) knows whom it limits only inside a task"):
            _ = ConcurrencyLimit(1).concurrency_key

    async def test_a_limit_of_the_worker_is_for_each_of_its_tasks(self, docket: Docket):
        keys: list[str] = []

        @docket.task
        async def one(limit: ConcurrencyLimit = Depends(ConcurrencyLimit)) -> None:
            keys.append(limit.concurrency_key)

        async with Worker(docket, dependencies=[RateLimit(100, per=SECOND)]) as worker:
            await one.schedule()
            await worker.run_until_finished()

        assert keys == ["one"]


class TestHoldingRunsBackOneself:
    def test_what_is_raised_says_what_holds_the_run_back(self):
        async def task(): ...

        execution = an_execution(task, key="k")

        blocked = AdmissionBlocked(execution)
        full = ConcurrencyBlocked(execution, "mail", 3)

        assert (str(blocked), blocked.reason, blocked.delay) == ("Task k blocked by admission control", "admission control", timedelta(milliseconds=100))
        assert (blocked.handled, blocked.reschedule, blocked.retry_delay, blocked.execution) == (False, True, None, execution)
        assert str(full) == "Task k blocked by concurrency limit (3 max) on mail"
        assert (full.concurrency_key, full.max_concurrent, full.delay) == ("mail", 3, timedelta(milliseconds=100))

    def test_how_long_a_run_is_put_off(self):
        async def task(): ...

        execution = an_execution(task)

        assert AdmissionBlocked(execution, "x", retry_delay=SECOND).delay == SECOND
        assert AdmissionBlocked(execution, "x", retry_delay=-SECOND).delay == timedelta(0)
        assert AdmissionBlocked(execution, "x", reschedule=False).delay is None
        assert AdmissionBlocked(execution, "x", handled=True, retry_delay=SECOND).delay is None

    def test_they_are_exported(self):
        assert {"AdmissionBlocked", "ConcurrencyBlocked"} <= set(dependencies.__all__)
