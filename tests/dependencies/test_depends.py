from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from datetime import timedelta
from typing import Any

import pytest
from typing_extensions import Self

from docket.dependencies import CurrentDocket, Dependency, Depends, Retry, TaskLogger
from docket.dependencies._resolution import compile_plan
from docket.errors import CycleError, DependencyFailed, InvalidOption
from tests.dependencies._runs import DOCKET, run


class Connection:
    def __init__(self, url: str = "default") -> None:
        self.url = url
        self.closed_by: BaseException | str | None = "nobody"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, exc_type: object, exc: BaseException | None, traceback: object) -> None:
        self.closed_by = exc


def plainly() -> str:
    return "given"


async def asynchronously() -> str:
    return "given"


def generating() -> Generator[str]:
    yield "given"


async def generating_asynchronously() -> AsyncGenerator[str]:
    yield "given"


@contextmanager
def managing() -> Generator[str]:
    yield "given"


@asynccontextmanager
async def managing_asynchronously() -> AsyncGenerator[str]:
    yield "given"


def giving_a_manager() -> Any:
    return managing()


def giving_an_awaitable() -> Any:
    return asynchronously()


def giving_a_generator() -> Any:
    return generating()


def giving_an_async_generator() -> Any:
    return generating_asynchronously()


class Callable:
    async def __call__(self) -> str:
        return "given"


@pytest.mark.parametrize(
    "function",
    [
        plainly,
        asynchronously,
        generating,
        generating_asynchronously,
        managing,
        managing_asynchronously,
        giving_a_manager,
        giving_an_awaitable,
        giving_a_generator,
        giving_an_async_generator,
        functools.partial(asynchronously),
        functools.partial(generating_asynchronously),
        Callable(),
        lambda: "given",
    ],
)
async def test_every_kind_of_callable_gives_its_value(function: Any):
    async def task(value: str = Depends(function)) -> str:
        return value

    assert await run(task) == "given"


async def test_a_class_is_made_and_entered_when_it_is_a_context_manager():
    async def task(plain: Callable = Depends(Callable), connection: Connection = Depends(Connection, url="db")):
        assert isinstance(plain, Callable)
        assert connection.closed_by == "nobody"
        return connection

    connection = await run(task)

    assert connection.url == "db" and connection.closed_by is None


async def test_a_builtin_that_hides_its_signature_can_be_depended_on():
    async def task(nothing: dict[str, int] = Depends(dict)):
        return nothing

    assert await run(task) == {}


async def test_dependencies_nest_and_each_is_called_once_per_run():
    calls: list[str] = []

    def base(suffix: str = "") -> str:
        calls.append(f"base{suffix}")
        return f"base{suffix}"

    def left(base: str = Depends(base)) -> str:
        return f"left of {base}"

    async def right(base: str = Depends(base), other: str = Depends(base, suffix="!")) -> str:
        return f"right of {base} and {other}"

    async def task(left: str = Depends(left), right: str = Depends(right), again: str = Depends(base)):
        return left, right, again

    assert await run(task) == ("left of base", "right of base and base!", "base")
    assert calls == ["base", "base!"]


async def test_bindings_may_be_dependencies_and_need_not_be_hashable():
    def joined(words: list[str], last: str, more: str = Depends(plainly)) -> str:
        return " ".join([*words, last, more])

    async def task(words: str = Depends(joined, words=["a", "b"], last=Depends(asynchronously))):
        return words

    assert await run(task) == "a b given given"


async def test_bindings_that_are_equal_and_of_different_types_are_different():
    def kind(value: Any) -> str:
        return type(value).__name__

    async def task(one: str = Depends(kind, value=1), true: str = Depends(kind, value=True)):
        return one, true

    assert await run(task) == ("int", "bool")


async def test_what_the_caller_passes_is_not_resolved():
    def never() -> str:
        raise AssertionError("resolved")

    async def task(a: str = Depends(never), b: str = Depends(plainly), c: int = 0):
        return a, b, c

    assert await run(task, a="passed") == ("passed", "given", 0)
    assert await run(task, "passed", c=1) == ("passed", "given", 1)
    assert await run(task, "passed", "too") == ("passed", "too", 0)


def recording(log: list[str], name: str) -> Any:
    async def opened() -> AsyncGenerator[str]:
        log.append(f"open {name}")
        try:
            yield name
        except BaseException as error:
            log.append(f"{name} saw {type(error).__name__}")
            raise
        finally:
            await asyncio.sleep(0)
            log.append(f"close {name}")

    return opened


async def test_dependencies_are_closed_in_reverse_order():
    log: list[str] = []

    async def task(a: str = Depends(recording(log, "a")), b: str = Depends(recording(log, "b"))):
        log.append("body")

    await run(task)

    assert log == ["open a", "open b", "body", "close b", "close a"]


async def test_dependencies_see_the_failure_of_the_body_and_cannot_undo_it():
    log: list[str] = []

    def swallowing() -> Generator[None]:
        try:
            yield
        except ZeroDivisionError:
            log.append("swallowed")

    async def task(a: str = Depends(recording(log, "a")), b: None = Depends(swallowing)):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await run(task)

    assert log == ["open a", "swallowed", "a saw ZeroDivisionError", "close a"]


async def test_dependencies_are_closed_whole_when_the_run_is_cancelled():
    log: list[str] = []
    started = asyncio.Event()

    async def task(a: str = Depends(recording(log, "a"))):
        started.set()
        await asyncio.sleep(60)

    running = asyncio.create_task(run(task, cleanup_timeout=timedelta(seconds=5)))
    await started.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running
    assert log == ["open a", "a saw CancelledError", "close a"]


async def test_a_dependency_that_fails_to_close_fails_the_run_and_the_others_are_closed():
    log: list[str] = []

    def failing() -> Generator[None]:
        yield
        raise OSError("commit failed")

    async def task(a: str = Depends(recording(log, "a")), b: None = Depends(failing)):
        pass

    with pytest.raises(OSError, match="commit failed"):
        await run(task)

    assert log == ["open a", "a saw OSError", "close a"]


async def test_a_failure_to_close_tells_the_failure_before_it():
    class Failing:
        def __enter__(self) -> None: ...
        def __exit__(self, *exc: object) -> None:
            raise self.error

        error = OSError("close failed")

    async def task(a: None = Depends(Failing)):
        raise ZeroDivisionError

    with pytest.raises(OSError, match="close failed") as raised:
        await run(task)

    assert isinstance(raised.value.__context__, ZeroDivisionError)


async def test_closing_is_bounded(caplog: pytest.LogCaptureFixture):
    log: list[str] = []

    async def endless() -> AsyncGenerator[None]:
        yield
        await asyncio.sleep(60)

    async def task(a: str = Depends(recording(log, "a")), b: None = Depends(endless)):
        return "done"

    assert await run(task, cleanup_timeout=timedelta(milliseconds=20)) == "done"
    assert "Stopped waiting for a dependency to close" in caplog.text
    assert log == ["open a", "close a"]


async def test_a_cancellation_while_closing_goes_on():
    closing = asyncio.Event()

    async def slow() -> AsyncGenerator[None]:
        yield
        closing.set()
        await asyncio.sleep(60)

    async def task(a: None = Depends(slow)): ...

    running = asyncio.create_task(run(task, cleanup_timeout=timedelta(seconds=60)))
    await closing.wait()
    running.cancel()

    with pytest.raises(asyncio.CancelledError):
        await running


async def test_a_dependency_that_fails_fails_the_run_and_names_the_parameter():
    log: list[str] = []

    def refused() -> str:
        raise ConnectionError("refused")

    async def nested(db: str = Depends(refused)) -> str:
        return db

    async def task(a: str = Depends(recording(log, "a")), users: str = Depends(nested)):
        raise AssertionError("the body ran")

    with pytest.raises(DependencyFailed, match=r"^Failed to resolve dependencies for parameter\(s\): users \(ConnectionError: refused\)") as raised:
        await run(task)

    assert isinstance(raised.value.__cause__, ConnectionError)
    assert log == ["open a", "a saw DependencyFailed", "close a"]


async def test_several_dependencies_that_fail_are_told_together():
    async def broken(why: str) -> str:
        raise ValueError(why)

    async def task(a: str = Depends(broken, why="one"), b: str = Depends(broken, why="two"), c: str = Depends(plainly)): ...

    with pytest.raises(DependencyFailed, match=r"parameter\(s\): a, b") as raised:
        await run(task)

    cause: Any = raised.value.__cause__
    assert cause.message == "Failed to resolve dependencies for parameter(s): a, b"
    assert [str(error) for error in cause.exceptions] == ["one", "two"]


async def test_a_retry_asked_for_by_a_dependency_is_not_wrapped():
    from docket.dependencies import ForcedRetry

    def later(retry: Retry = Depends(Retry)) -> None:
        retry.after(timedelta(seconds=3))

    async def task(a: None = Depends(later), retry: Retry = Retry(attempts=2)): ...

    with pytest.raises(ForcedRetry):
        await run(task)


def test_a_parameter_that_nothing_gives_is_found_at_registration():
    def connect(url: str) -> str:
        return url

    async def task(db: str = Depends(connect)): ...

    with pytest.raises(InvalidOption, match=r"needs 'url', which nothing gives: bind it, as in Depends\(.*connect, url=\.\.\.\)"):
        compile_plan(task, "task")


def test_a_positional_only_dependency_is_refused():
    async def task(db: str = Depends(plainly), /): ...

    with pytest.raises(InvalidOption, match="positional-only"):
        compile_plan(task, "task")


def one(two: Any = None) -> int: ...
def two(one: int = Depends(one)) -> int: ...


def test_a_circle_is_found_at_registration():
    one.__defaults__ = (Depends(two),)

    async def task(a: int = Depends(one)): ...

    with pytest.raises(CycleError, match=r"'test_a_circle.*task' .*: Depends\(one\) -> Depends\(two\) -> Depends\(one\)"):
        compile_plan(task, "task")


class Upper(Dependency):
    def __init__(self, word: str = "word") -> None:
        self.word = word

    async def __aenter__(self) -> str:
        self.word = self.word.upper()
        return self.word


async def test_a_dependency_of_the_users_own_is_copied_for_each_run_and_gives_what_it_enters_as():
    template = Upper("hello")

    async def task(word: str = template):  # pyright: ignore[reportArgumentType]
        return word

    assert await run(task) == "HELLO"
    assert template.word == "hello"


async def test_a_dependency_class_can_be_depended_on_with_bindings_that_are_dependencies():
    async def task(word: str = Depends(Upper, word=Depends(plainly)), other: str = Depends(Upper), same: str = Depends(Upper, word="same")):
        return word, other, same

    assert await run(task) == ("GIVEN", "WORD", "SAME")


async def test_a_function_may_give_a_dependency():
    from docket.dependencies import current_docket, current_execution, current_worker
    from tests.dependencies._runs import WORKER, an_execution

    async def task(docket: Any = Depends(CurrentDocket)):
        return docket

    tokens = [current_docket.set(DOCKET), current_worker.set(WORKER), current_execution.set(an_execution(task))]
    try:
        assert await run(task) is DOCKET
    finally:
        for variable, token in zip((current_docket, current_worker, current_execution), tokens, strict=True):
            variable.reset(token)  # pyright: ignore[reportArgumentType]


async def test_overrides_stand_in_for_functions_wherever_they_are_used():
    def nested(value: str = Depends(plainly)) -> str:
        return f"nested {value}"

    def fake(logger: TaskLogger = Depends(TaskLogger)) -> str:
        return f"fake for {logger.extra['docket.key']}" if logger.extra else "?"

    async def task(value: str = Depends(nested), retry: Retry = Retry()):
        return value

    assert await run(task, overrides={plainly: fake}) == "nested fake for key-1"
    assert await run(task) == "nested given"


class Unhashable:
    __hash__: Any = None

    def __call__(self) -> str:
        return "given"


async def test_a_callable_that_cannot_be_hashed_can_be_depended_on():
    async def task(value: str = Depends(Unhashable())):
        return value

    assert await run(task, overrides={plainly: asynchronously}) == "given"


async def test_a_dependency_of_one_run_inside_an_override_is_refused():
    def fake(retry: Retry = Retry(attempts=3)) -> str: ...

    def other(retry: Retry = Depends(Retry, attempts=3)) -> str: ...

    async def task(value: str = Depends(plainly)): ...

    for replacement in (fake, other):
        with pytest.raises(InvalidOption, match="belongs to a run"):
            await run(task, overrides={plainly: replacement})


async def test_a_dependency_of_the_users_own_may_stand_in_an_override():
    def fake(word: str = Upper("direct"), other: str = Depends(Upper, word="bound")) -> str:  # pyright: ignore[reportArgumentType]
        return f"{word} {other}"

    async def task(value: str = Depends(plainly)):
        return value

    assert await run(task, overrides={plainly: fake}) == "DIRECT BOUND"


async def test_a_plan_keeps_a_bounded_number_of_recipes():
    async def task(value: str = Depends(plainly)):
        return value

    plan = compile_plan(task, "task")

    for _ in range(200):
        plan.recipe_for((), {}, {plainly: lambda: "fake"})

    assert plan.recipe_for((), {}, {plainly: asynchronously}) is plan.recipe_for((), {}, {plainly: asynchronously})
    assert len(plan._variants) <= 64  # pyright: ignore[reportPrivateUsage]


def test_a_task_without_dependencies_has_nothing_to_resolve():
    async def task(a: int, b: int = 2): ...

    assert compile_plan(task, "task").trivial
