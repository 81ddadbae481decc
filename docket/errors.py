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
    "WrongState",
]


class DocketError(Exception):
    """This is the root of everything docket raises of its own accord."""


class NotEntered(DocketError, RuntimeError):
    """This docket or worker is used outside its `async with` block, or in another event loop than it was entered in."""


class NoDocket(DocketError, RuntimeError):
    """This task handle knows no docket, and there is no single entered one to take."""


class UnknownTask(DocketError, KeyError):
    """This task name must resolve in this process and does not."""

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class NameTaken(DocketError, ValueError):
    """This task name already stands for another function."""


class InvalidArguments(DocketError, TypeError):
    """These arguments do not bind to the signature of the task."""


class ArgumentsChanged(InvalidArguments):
    """These stored arguments do not bind to the function that this worker has for the task."""


class InvalidSchedule(DocketError, ValueError):
    """This `when`, `key` or call cannot be scheduled as it stands."""


class InvalidOption(DocketError, ValueError):
    """This option of a docket, a worker, a behaviour or the command line has a value it cannot take."""


class InvalidWorkerDependency(InvalidOption, TypeError):
    """This is given to a worker as a dependency, and is none."""


class InvalidURL(DocketError, ValueError):
    """This is no URL docket can connect to; credentials in it are masked."""


class LoadError(DocketError, ImportError):
    """This `module:member` path leads to nothing usable."""


class NotSerializable(DocketError, TypeError):
    """This argument or result cannot be written by the docket's serializer."""


class PayloadTooLarge(NotSerializable, ValueError):
    """These arguments or this result take more than `max_payload_bytes`."""


class PayloadError(DocketError, ValueError):
    """This stored payload cannot be decoded."""


class PayloadRefused(PayloadError):
    """This stored payload is not signed as it should be, or of a kind that is not accepted here. It was not decoded."""


class RedisUnavailable(DocketError, ConnectionError):
    """This call did not reach Redis; nothing was written."""


class InDoubt(RedisUnavailable):
    """This call was sent and its reply was lost: it may have been carried out. Repeating it with the same key is safe.

    A run that was scheduled and is over by then is not remembered for that: the repeat is another run of the key.
    """


class NotReplicated(DocketError, RuntimeError):
    """This task *is* scheduled, and will run unless the server is lost now: fewer replicas than `durable_adds` asks for have confirmed it in time.

    Repeating the call with the same key is safe, and asks them again.
    """


class ServerError(DocketError, RuntimeError):
    """This call was refused by the server, for a reason that waiting does not mend."""


class ServerTooOld(DocketError, RuntimeError):
    """This server is older than what docket runs on; the message names both versions."""


class LayoutMismatch(DocketError, RuntimeError):
    """This docket's data is in another layout than is wanted here: a newer one, or of another number of shards."""


class DeliveriesExhausted(DocketError, RuntimeError):
    """This task took its worker down each time it was run alone, so it is not run again."""


class DependencyNotGiven(DocketError, TypeError):
    """This task was called directly without the dependency that a worker would have given it."""


class DependencyFailed(DocketError, RuntimeError):
    """These dependencies of a task failed to resolve; the message names the parameters."""


class CycleError(DocketError, ValueError):
    """These dependencies need each other in a circle."""


class EndlessWork(DocketError, RuntimeError):
    """This drain has run as many tasks as it may, and is not done."""


class ExecutionCancelled(DocketError):
    """This execution was cancelled, so it has no result."""


class ExecutionSuperseded(DocketError):
    """This execution was replaced under its key before it ended, so it has no result."""


class ResultUnavailable(DocketError, LookupError):
    """This execution's record is gone (`execution_ttl` has passed), so nothing is known of its end."""


class WrongState(DocketError, RuntimeError):
    """This run is in a state in which what was asked of it cannot be done."""


if sys.version_info >= (3, 11):

    class ResultTimeout(DocketError, TimeoutError):
        """This execution did not end in the time the caller gave it."""

else:  # pragma: no cover - Python 3.10, where asyncio's is a class of its own; the fundamentals run there
    import asyncio

    class ResultTimeout(DocketError, TimeoutError, asyncio.TimeoutError):
        """This execution did not end in the time the caller gave it."""
