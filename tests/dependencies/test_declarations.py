from __future__ import annotations

from collections.abc import Generator
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, cast

import pytest

from docket.dependencies import (
    CompletionHandler,
    Dependency,
    Depends,
    ExponentialRetry,
    FailureHandler,
    Perpetual,
    Retry,
    Shared,
    TaskLogger,
    TaskOutcome,
    Timeout,
)
from docket.dependencies._resolution import compile_plan
from docket.errors import DependencyFailed, InvalidOption
from tests.dependencies._runs import an_execution, run

SECOND = timedelta(seconds=1)


async def test_a_behaviour_can_be_declared_in_every_form():
    async def direct(retry: Retry = Retry(attempts=3)): ...

    async def depends(retry: Retry = Depends(Retry, attempts=3)): ...

    def via(retry: Retry = Retry(attempts=3)) -> Retry: ...

    async def nested(via: Retry = Depends(via)): ...

    @Retry(attempts=3)
    async def decorated(): ...

    for function in (direct, depends, nested):
        retry = compile_plan(function, "task").retry
        assert retry is not None and retry.attempts == 3

    assert [behaviour.attempts for behaviour in decorated.declared] == [3]
    assert compile_plan(decorated.function, "task", decorated.declared).retry is decorated.declared[0]


async def test_decorators_stack_on_the_handle_whatever_their_order():
    @Retry(attempts=3)
    @Timeout(SECOND)
    async def one(a: int) -> int:
        return a

    @Timeout(SECOND)
    @Retry(attempts=3)
    def other(a: int) -> int:
        return a

    for handle in (one, other):
        plan = compile_plan(handle.function, "task", handle.declared)
        assert plan.retry is not None and isinstance(plan.runtime, Timeout)
    assert await one(1) == other(1) == 1


async def test_a_body_and_what_it_depends_on_reach_the_runs_own_copy():
    def nested(retry: Retry = Depends(Retry), timeout: Timeout = Depends(Timeout), logger: TaskLogger = Depends(TaskLogger)) -> Any:
        return retry, timeout, logger

    async def task(
        nested: Any = Depends(nested), retry: Retry = Depends(Retry), timeout: Timeout = Timeout(SECOND), logger: TaskLogger = Depends(TaskLogger)
    ) -> Any:
        return nested, (retry, timeout, logger)

    template = ExponentialRetry(attempts=3)
    nested_ones, own = await run(task, declared=(template,), attempt=2)

    assert all(one is other for one, other in zip(nested_ones, own, strict=True))
    assert own[0] is not template and own[0].attempt == 2 and template.attempt == 1


async def test_asking_without_a_declaration_declares_the_plain_form():
    async def task(retry: Retry = Depends(Retry), again: Retry = Depends(Retry)):
        return retry, again

    retry, again = await run(task)

    assert retry is again and retry.attempts == 1


def test_asking_for_what_cannot_be_made_plainly_says_how():
    async def task(timeout: Timeout = Depends(Timeout)): ...

    with pytest.raises(InvalidOption, match=r"write Depends\(Timeout, base=\.\.\.\)"):
        compile_plan(task, "task")


def test_a_nested_request_needs_the_task_to_declare_one():
    def nested(perpetual: Perpetual = Depends(Perpetual)) -> None: ...

    async def task(nested: None = Depends(nested)): ...

    with pytest.raises(InvalidOption, match=r"parameter 'perpetual' of .*nested asks for the task's own Perpetual, and the task declares none"):
        compile_plan(task, "task")


def test_a_behaviour_must_be_known_at_registration():
    async def task(timeout: Timeout = Depends(Timeout, base=Depends(lambda: SECOND))): ...

    with pytest.raises(InvalidOption, match="must be known when the task is registered"):
        compile_plan(task, "task")


@pytest.mark.parametrize("declared", [(), (Retry(),)])
def test_two_of_a_kind_are_refused_and_both_places_named(declared: tuple[Dependency, ...]):
    def nested(other: Retry = ExponentialRetry()) -> None: ...

    async def two(retry: Retry = Retry(), nested: None = Depends(nested)): ...

    async def one(nested: None = Depends(nested)): ...

    expected = (
        r"Only one FailureHandler dependency is allowed per task, and 'task' has two: Retry \({}\) and ExponentialRetry \(parameter 'other' of .*nested\)"
    )
    with pytest.raises(ValueError, match=expected.format("decorator @Retry" if declared else "parameter 'retry'")):
        compile_plan(one if declared else two, "task", declared)


def test_one_template_in_two_places_is_one_declaration():
    shared = Retry(attempts=3)

    def nested(retry: Retry = shared) -> None: ...

    async def task(retry: Retry = shared, nested: None = Depends(nested)): ...

    assert compile_plan(task, "task").templates == (shared,)


class Limit(Dependency):
    single = True

    def __init__(self) -> None:
        self.bound: Any = None

    def bind_to_parameter(self, name: str, value: Any) -> Limit:
        bound = Limit()
        bound.bound = (name, value)
        return bound

    async def __aenter__(self) -> None:
        entered.append(self.bound)


class Unlimited(Limit):
    single = False


entered: list[Any] = []


@pytest.fixture(autouse=True)
def _nothing_entered():
    entered.clear()


async def test_a_dependency_in_an_arguments_annotation_acts_for_that_argument():
    async def task(customer: Annotated[int, Limit()], region: Annotated[str, Unlimited()] = "eu"):
        return customer

    assert await run(task, 12) == 12
    assert entered == [("customer", 12), ("region", "eu")]


async def test_a_dependency_acts_for_an_argument_only_when_there_is_one():
    async def task(*, customer: Annotated[int, Limit()]): ...

    with pytest.raises(TypeError):
        await run(task)
    assert entered == []


class Failing(Dependency):
    async def __aenter__(self) -> None:
        raise OSError("no slot")


async def test_a_failure_of_what_acts_is_told_by_the_argument():
    async def annotated(customer: Annotated[int, Failing()]): ...

    async def plain(): ...

    with pytest.raises(RuntimeError, match=r"parameter\(s\): customer \(OSError: no slot\)"):
        await run(annotated, 12)
    with pytest.raises(RuntimeError, match=r"parameter\(s\): @Failing \(OSError: no slot\)"):
        await run(plain, declared=(Failing(),))


def test_two_of_a_kind_in_annotations_are_refused():
    async def task(a: Annotated[int, Limit()], b: Annotated[int, Limit()]): ...

    with pytest.raises(ValueError, match=r"Only one Limit .*\(annotation of 'a'\) and Limit \(annotation of 'b'\)"):
        compile_plan(task, "task")


def connect() -> Generator[str]:
    yield "connected"


async def test_an_annotation_may_say_what_a_parameter_depends_on():
    async def task(a: int, db: Annotated[str, Depends(connect)], shown: Annotated[str, "a comment"] = "x"):
        return a, db, shown

    assert await run(task, 1) == (1, "connected", "x")
    assert await run(task, 1, db="passed") == (1, "passed", "x")


if TYPE_CHECKING:
    from decimal import Decimal as Nowhere


async def test_a_default_wins_over_an_annotation():
    async def task(db: Annotated[str, Depends(connect)] = Depends(lambda: "default")):
        return db

    assert await run(task) == "default"


def test_an_annotation_for_type_checkers_only_does_not_stop_a_registration():
    async def task(a: Nowhere, retry: Retry = Retry(attempts=2)): ...

    plan = compile_plan(task, "task")

    assert plan.retry is not None


async def test_a_decorator_is_entered_around_the_run_and_its_value_can_be_asked_for():
    log: list[str] = []

    class Around(Dependency):
        async def __aenter__(self) -> str:
            log.append("enter")
            return "entered"

        async def __aexit__(self, *details: object) -> None:
            log.append("exit")

    async def task():
        log.append("body")

    async def asking(around: str = Depends(Around)):
        return around

    await run(task, declared=(Around(),))

    assert log == ["enter", "body", "exit"]
    assert await run(asking, declared=(Around(),)) == "entered"


async def test_the_worker_finds_what_it_acts_upon():
    class Handling(FailureHandler):
        async def handle_failure(self, execution: Any, outcome: TaskOutcome) -> bool:
            return True

    class Completing(CompletionHandler):
        async def on_complete(self, execution: Any, outcome: TaskOutcome) -> bool:
            return True

    async def task(): ...

    own = compile_plan(task, "task", (Handling(), Completing())).begin(an_execution(task))
    ours = compile_plan(task, "task", (Retry(), Perpetual())).begin(an_execution(task))

    assert isinstance(own.failure_handler, Handling) and isinstance(own.completion_handler, Completing)
    assert own.retry is own.perpetual is own.runtime is None
    assert ours.failure_handler is ours.retry and ours.completion_handler is ours.perpetual


def test_a_plan_describes_itself():
    async def task(db: str = Depends(connect), shared: str = Shared(connect), retry: Retry = Retry()): ...

    plan = compile_plan(task, "task")

    assert repr(plan) == "<Plan of 'task': 1 behaviours, 3 steps>"
    assert [repr(parameter.default) for parameter in plan.signature.parameters.values()][:2] == ["Depends(connect)", "Shared(connect)"]


def test_a_plan_checks_a_call():
    async def task(a: int, retry: Retry = Retry()): ...

    plan = compile_plan(task, "task")

    plan.validate_call((1,), {})
    with pytest.raises(TypeError, match="task"):
        plan.validate_call((), {})


async def test_what_only_gives_values_may_be_put_around_a_run():
    log: list[str] = []

    def around() -> Generator[None]:
        log.append("open")
        yield
        log.append("close")

    def refused() -> None:
        raise OSError("refused")

    async def task():
        log.append("body")

    await run(task, declared=cast("Any", (Depends(around), Depends(Retry, attempts=2))))

    assert log == ["open", "body", "close"]
    with pytest.raises(DependencyFailed, match=r"Depends\(.*refused\) \(OSError: refused\)"):
        await run(task, declared=cast("Any", (Depends(refused),)))
