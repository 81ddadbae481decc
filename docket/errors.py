"""Every error that docket raises of its own accord, in one tree under `DocketError`.

Each also subclasses the built-in that a caller would expect, so `except KeyError` and `except DocketError` both work.
"""

import sys

__all__ = [
    "ArgumentsChanged",
    "CycleError",
    "DeliveriesExhausted",
    "DependencyFailed",
    "DependencyNotGiven",
    "DocketError",
    "EndlessWork",
    "ExecutionCancelled",
    "ExecutionSuperseded",
    "InDoubt",
    "InvalidArguments",
    "InvalidOption",
    "InvalidSchedule",
    "InvalidURL",
    "InvalidWorkerDependency",
    "LayoutMismatch",
    "LoadError",
    "NameTaken",
    "NoDocket",
    "NotEntered",
    "NotReplicated",
    "NotSerializable",
    "PayloadError",
    "PayloadRefused",
    "PayloadTooLarge",
    "RedisUnavailable",
    "ResultTimeout",
    "ResultUnavailable",
    "ServerError",
    "ServerTooOld",
    "UnknownTask",
    "WouldBlock",
    "WrongState",
]


class DocketError(Exception):
    """This is the root of everything docket raises of its own accord."""


class NotEntered(DocketError, RuntimeError):
    """This docket or worker is used outside its `async with` block, or in another event loop than it was entered in.

    What to do: use it inside `async with docket:` (or `async with Worker(docket) as worker:`), in the event loop that entered it. Another loop, or a
    forked child, enters it again.
    """


class NoDocket(DocketError, RuntimeError):
    """This task handle knows no docket, and there is no single entered one to take.

    What to do: enter the docket that the task belongs to; where a process has entered several, schedule by the docket itself, `docket.add(task, ...)`.
    """


class UnknownTask(DocketError, KeyError):
    """This task name must resolve in this process and does not.

    What to do: register the function in this process (`@docket.task`, `docket.register(...)`), or correct the name; the message suggests the nearest one.
    Scheduling by name needs no registration: a worker that knows the task runs it.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NameTaken(DocketError, ValueError):
    """This task name already stands for another function.

    What to do: give one of them another name, as in `@docket.task(name="emails.welcome")`.
    """


class InvalidArguments(DocketError, TypeError):
    """These arguments do not bind to the signature of the task.

    What to do: call the task as its function is called. Nothing was scheduled.
    """


class ArgumentsChanged(InvalidArguments):
    """These stored arguments do not bind to the function that this worker has for the task.

    It is what such a run ends FAILED with. What to do: give new parameters a default for as long as calls without them may be waiting; run the dead letter
    again, with other arguments if need be.
    """


class InvalidSchedule(DocketError, ValueError):
    """This `when`, `key` or call cannot be scheduled as it stands.

    What to do: give an aware datetime (`datetime.now(timezone.utc)`) or a timedelta as `when`, and a string that is not empty as `key`. Nothing was scheduled.
    """


class InvalidOption(DocketError, ValueError):
    """This option of a docket, a worker, a behaviour or the command line has a value it cannot take.

    What to do: the message names the option, what it was given, and what it takes.
    """


class InvalidWorkerDependency(InvalidOption, TypeError):
    """This is given to a worker as a dependency, and is none.

    What to do: give `Worker(dependencies=...)` objects such as `Timeout(...)` or `Depends(...)`.
    """


class InvalidURL(DocketError, ValueError):
    """This is no URL docket can connect to; credentials in it are masked.

    What to do: compare it with the forms that docket knows; the message names what is wrong with it.
    """


class LoadError(DocketError, ImportError):
    """This `module:member` path leads to nothing usable.

    What to do: write `module:member`, and run the command where that module can be imported; the message says which part was not found.
    """


class NotSerializable(DocketError, TypeError):
    """This argument or result cannot be written by the docket's serializer.

    What to do: pass something plainer, such as the id of a row in place of the object. Nothing was scheduled. A result that cannot be written is not kept:
    the run ends COMPLETED, and its `error` says why.
    """


class PayloadTooLarge(NotSerializable, ValueError):
    """These arguments or this result take more than `max_payload_bytes`.

    What to do: keep large data elsewhere and pass its name, or raise `Docket(max_payload_bytes=...)`.
    """


class PayloadError(DocketError, ValueError):
    """This stored payload cannot be decoded.

    It is what such a run ends FAILED with; others are not held up. What to do: see that producers and workers have the same classes and serializer.
    """


class PayloadRefused(PayloadError):
    """This stored payload is not signed as it should be, or of a kind that is not accepted here. It was not decoded.

    What to do: give producers and workers the same `signing_keys`, and `accept` what they write. Where that is so, somebody else writes to this Redis.
    """


class RedisUnavailable(DocketError, ConnectionError):
    """This call did not reach Redis; nothing was written.

    What to do: repeat the call later. It was repeated for five seconds before this was raised. A worker waits by itself, for as long as it takes.
    """


class InDoubt(RedisUnavailable):
    """This call was sent and its reply was lost: it may have been carried out. Repeating it with the same key is safe.

    A run that was scheduled and is over by then is not remembered for that: the repeat is another run of the key.

    What to do: repeat the call with the same key.
    """


class NotReplicated(DocketError, RuntimeError):
    """This task *is* scheduled, and will run unless the server is lost now: fewer replicas than `durable_adds` asks for have confirmed it in time.

    Repeating the call with the same key is safe, and asks them again.

    What to do: nothing, or look at the replicas.
    """


class ServerError(DocketError, RuntimeError):
    """This call was refused by the server, for a reason that waiting does not mend.

    What to do: the message holds the server's own word: out of memory (`OOM`), a command that this user may not run (`NOPERM`), a wrong password.
    """


class ServerTooOld(DocketError, RuntimeError):
    """This server is older than what docket runs on; the message names both versions.

    What to do: use Redis 6.2 or newer, or any Valkey.
    """


class LayoutMismatch(DocketError, RuntimeError):
    """This docket's data is in another layout than is wanted here: a newer one, or of another number of shards.

    What to do: give the number of shards that the message names, or leave it out; where a newer version wrote the data, upgrade docket here as well,
    or use another name for the docket.
    """


class DeliveriesExhausted(DocketError, RuntimeError):
    """This task took its worker down each time it was run alone, so it is not run again.

    It is what such a run ends FAILED with, after `max_deliveries`. What to do: find what kills the process, mostly memory or a C extension; then run the dead
    letter again.
    """


class DependencyNotGiven(DocketError, TypeError):
    """This task was called directly without the dependency that a worker would have given it.

    What to do: pass the argument yourself, or have `docket.testing.run_task` resolve it.
    """


class DependencyFailed(DocketError, RuntimeError):
    """These dependencies of a task failed to resolve; the message names the parameters.

    The task's `Retry` applies to it. What to do: look at the
    message, which holds the errors, and at the worker's traceback, which is the `__cause__` where the result was asked for.
    """


class CycleError(DocketError, ValueError):
    """These dependencies need each other in a circle.

    What to do: break the circle that the message shows.
    """


class EndlessWork(DocketError, RuntimeError):
    """This drain has run as many tasks as it may, and is not done.

    What to do: see which task schedules itself again and again; end the drain by a time, or raise `at_most`.
    """


class ExecutionCancelled(DocketError):
    """This execution was cancelled, so it has no result.

    It is raised by `get_result()`.
    """


class ExecutionSuperseded(DocketError):
    """This execution was replaced under its key before it ended, so it has no result.

    It is raised by `get_result()`. What to do: ask for the run that stands under the key now, `docket.get_execution(key)`.
    """


class ResultUnavailable(DocketError, LookupError):
    """This execution's record is gone (`execution_ttl` has passed, or its key was scheduled again), so nothing is known of its end.

    What to do: ask earlier, give runs that somebody waits for keys of their own, or keep records for longer with `Docket(execution_ttl=...)`.
    """


class WouldBlock(DocketError, RuntimeError):
    """This call waits, and was made where an event loop runs, which would stand still meanwhile. Await the docket itself there."""


class WrongState(DocketError, RuntimeError):
    """This run is in a state in which what was asked of it cannot be done.

    What to do: the message names the state, and what can be done in it.
    """


if sys.version_info >= (3, 11):

    class ResultTimeout(DocketError, TimeoutError):
        """This execution did not end in the time the caller gave it.

        What to do: wait again. The execution goes on.
        """

else:  # pragma: no cover - Python 3.10, where asyncio's is a class of its own; the fundamentals run there
    import asyncio

    class ResultTimeout(DocketError, TimeoutError, asyncio.TimeoutError):
        """This execution did not end in the time the caller gave it.

        What to do: wait again. The execution goes on.
        """
