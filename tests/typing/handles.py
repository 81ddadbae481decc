"""What type checkers make of declaring, calling and scheduling tasks. Read by pyright and mypy; never run."""

from collections.abc import Callable, Coroutine
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import assert_type

import docket as package
from docket import Docket, Execution, ExecutionState, Perpetual, Scheduler, SyncClient, SyncExecution, SyncTask, Task, TaskCall, TaskKey
from docket.execution import InterruptionEvent, ProgressEvent, StateEvent

docket = Docket()


async def plain(customer_id: int, /) -> bool:
    return bool(customer_id)


def plain_sync(customer_id: int, /) -> str:
    return str(customer_id)


@docket.task
async def send(customer_id: int, name: str) -> bool:
    return bool(customer_id and name)


@docket.task(name="emails.welcome")
async def welcome(customer_id: int, /) -> str:
    return str(customer_id)


@docket.task
def resize(width: int, /) -> bytes:
    return bytes(width)


@docket.task(name="images.crop")
def crop(width: int, /) -> bytes:
    return bytes(width)


@package.task
async def ambient(number: int, /) -> float:
    return float(number)


@package.task(name="named")
async def ambient_named(number: int, /) -> float:
    return float(number)


@package.task
def ambient_sync(number: int, /) -> float:
    return float(number)


@Perpetual(interval=timedelta(minutes=5))
async def unbound(service: str, /) -> None: ...


@docket.task
@Perpetual(every=timedelta(minutes=5))
async def monitor(service: str) -> int:
    return len(service)


@docket.add
@Perpetual(interval=timedelta(minutes=5))
async def added(service: str, /) -> int:
    return len(service)


@docket.add
async def added_plain(service: str, /) -> int:
    return len(service)


@docket.task
async def chain(file: str, key: str = TaskKey()) -> None: ...


assert_type(welcome, Task[[int], str])
assert_type(resize, SyncTask[[int], bytes])
assert_type(crop, SyncTask[[int], bytes])
assert_type(ambient, Task[[int], float])
assert_type(ambient_named, Task[[int], float])
assert_type(ambient_sync, SyncTask[[int], float])
assert_type(unbound, Task[[str], None])
assert_type(added, Scheduler[[str], int])
assert_type(added_plain, Scheduler[[str], int])
assert_type(send.name, str)
assert_type(send.docket, Docket)
assert_type(docket.task(unbound), Task[[str], None])


async def calling() -> None:
    assert_type(await send(1, name="Jane"), bool)
    assert_type(resize(1), bytes)
    assert_type(await monitor("main"), int)
    await send("one", "Jane")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    resize("wide")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def scheduling(tomorrow: datetime) -> None:
    assert_type(await send.schedule(1, name="Jane", key="welcome-1", when=timedelta(hours=1)), Execution[bool])
    assert_type(await send.schedule(1, "Jane", when=tomorrow), Execution[bool])
    assert_type(await resize.schedule(1), Execution[bytes])
    assert_type(await monitor.schedule(key="monitor-main", service="main"), Execution[int])
    assert_type(await send.replace(1, "Jane", key="welcome-1"), Execution[bool])
    await send.replace(1, "Jane")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await send.schedule(1, "Jane", key=1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.schedule(1, "Jane", when="tomorrow")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.cancel("welcome-1")


async def with_options(tomorrow: datetime) -> None:
    assert_type(await send.options(key="welcome-2").schedule(2, "John"), Execution[bool])
    assert_type(await send.options(key="welcome-2", when=tomorrow).replace(2, name="John"), Execution[bool])
    assert_type(send.options(when=timedelta(hours=1)).call(2, "John"), TaskCall[bool])
    assert_type(await chain.options(key="c").schedule("a.txt"), Execution[None])
    await send.options(key="k").schedule("two", "John")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await send.options(key="k").schedule(2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await send.options(key="k").replace(2, "John", "Smith")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.options(key="k").call(2, nom="John")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.options(kee="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]


async def adding(tomorrow: datetime) -> None:
    assert_type(docket.add(plain), Scheduler[[int], bool])
    assert_type(docket.add(resize), Scheduler[[int], bytes])
    assert_type(docket.add(plain_sync), Scheduler[[int], str])
    assert_type(docket.add("send"), Scheduler[..., Any])
    assert_type(docket.add(added), Scheduler[[str], int])

    assert_type(await docket.add(plain)(1), Execution[bool])
    assert_type(await docket.add(plain_sync)(1), Execution[str])
    assert_type(await docket.add(send, when=tomorrow, key="k")(12345, "Jane Smith"), Execution[bool])
    assert_type(await docket.add(resize, timedelta(hours=1))(5), Execution[bytes])
    assert_type(await docket.add("send", key="k")(12345, anything=True), Execution[Any])
    assert_type(await docket.add(added)("main"), Execution[int])
    assert_type(await added("main"), Execution[int])
    assert_type(await added.schedule("main", key="monitor"), Execution[int])
    assert_type(await added_plain.options(key="k").schedule("main"), Execution[int])
    await docket.add(plain)("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await docket.add(plain_sync)()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await docket.add(send)(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await docket.add(resize)("wide")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await added(5)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    docket.add(5)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue, reportArgumentType]


async def replacing(tomorrow: datetime) -> None:
    assert_type(docket.replace(plain, tomorrow, "k"), Callable[[int], Coroutine[Any, Any, Execution[bool]]])
    assert_type(await docket.replace(send, when=tomorrow, key="k")(12345, "Jane"), Execution[bool])
    assert_type(await docket.replace("send", when=timedelta(0), key="k")(12345), Execution[Any])
    assert_type(await docket.replace(plain_sync, None, "k")(1), Execution[str])
    await docket.replace(send, when=tomorrow, key="k")("one", "Jane")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await docket.replace(send, when=tomorrow)(1, "Jane")  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]


async def batching() -> None:
    assert_type(send.call(1, "x"), TaskCall[bool])
    assert_type(docket.call(plain, key="k")(1), TaskCall[bool])
    assert_type(docket.call("send")(1, 2, 3), TaskCall[Any])
    assert_type(await docket.add_many(send.call(i, "x") for i in range(5)), list[Execution[bool]])
    assert_type(await docket.replace_many([resize.call(1)], chunk_size=None), list[Execution[bytes]])
    send.call(1)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    send.call(1, "x", key="k")  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    docket.call(plain)("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def results() -> None:
    execution = await send.schedule(1, "x")
    assert_type(await execution.get_result(timeout=timedelta(seconds=5)), bool)
    assert_type(await execution.retry(), Execution[bool])
    assert_type(await docket.get_execution("k"), Execution[Any] | None)
    async for event in execution.subscribe():
        if event["type"] == "state":
            assert_type(event["worker"], str | None)
        else:
            assert_type(event["current"], int | None)


async def watching(include: bool) -> None:
    async for event in docket.events():
        assert_type(event, StateEvent | InterruptionEvent)
        if event["type"] == "interruption":
            assert_type(event["missed"], int | None)
        else:
            assert_type(event["state"], ExecutionState)
    async for each in docket.events(include_progress=include):
        assert_type(each, StateEvent | ProgressEvent | InterruptionEvent)


async def operating() -> None:
    async for execution in docket.executions(state="failed", task="send"):
        assert_type(execution, Execution[Any])
    page = await docket.executions().page(None, size=10)
    assert_type(page.executions, list[Execution[Any]])
    assert_type(page.cursor, str | None)
    for running in (await docket.snapshot(limit=10)).running:
        assert_type(running.worker, str)
        assert_type(running.started, datetime)


def blocking() -> None:
    client = docket.sync()
    assert_type(client, SyncClient)
    assert_type(client.add(send)(1, "Jane"), SyncExecution[bool])
    assert_type(client.add(resize, when=timedelta(hours=1), key="k")(1).get_result(), bytes)
    assert_type(client.replace(plain, datetime.now(), "k")(1), SyncExecution[bool])
    assert_type(client.add("unknown")(1), SyncExecution[Any])
    assert_type(client.schedule(send.call(1, name="Jane")), SyncExecution[bool])
    assert_type(client.run(welcome.schedule(1)), SyncExecution[str])
    assert_type(client.run(docket.clear()), int)
    assert_type(client.add_many([ambient.call(1)]), list[SyncExecution[float]])
    client.add(send)("one", "Jane")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    client.add(plain)()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
