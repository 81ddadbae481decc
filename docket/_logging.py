"""Loggers: the standard ones, and the structlog logger behind a task's own lines.

How lines look on a terminal is the command line's business (`docket.cli`); an application sets up logging as it likes.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import EventDict, WrappedLogger

from docket._durations import format_duration

__all__ = ["Line", "RunLines", "TaskEvents", "bind_run", "bind_worker", "format_duration", "task_logger"]

_IDENTITY = "docket."
"""Fields whose name starts so tell which run speaks; they go with the record and not into its text."""

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What `logging` keeps for itself on a record; a field of that name gets an underscore behind it."""


_new_record = logging.LogRecord.__new__


def task_logger(name: str) -> logging.Logger:
    """This gives the standard logger that the bodies of one task write to."""
    return logging.getLogger(f"docket.task.{name}")


class RunLines:
    """This writes the lines about runs, of which every task has two, with fields on their records.

    A record is copied from one of the same level: the standard library's way to one takes as long as all of docket's work on
    the line (the search for the caller, names of thread and process). An application's own record factory is asked as ever.
    """

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._models: dict[int, dict[str, Any]] = {}

    def write(self, level: int, line: str, fields: Mapping[str, object], exception: BaseException | None = None) -> None:
        """This writes one line of a level that is on."""
        logger = self._logger
        exc_info = None if exception is None else (type(exception), exception, exception.__traceback__)
        factory = logging.getLogRecordFactory()
        if factory is logging.LogRecord:
            created = time.time()
            model = self._models.get(level) or self._model(level)
            record = _new_record(logging.LogRecord)
            record.__dict__ = {
                **model, **fields,
                "msg": line, "exc_info": exc_info, "created": created, "msecs": int(created % 1 * 1000) + 0.0,
                "relativeCreated": model["relativeCreated"] + (created - model["created"]) * 1000,
            }  # fmt: skip
        else:
            record = factory(logger.name, level, __file__, 0, line, (), exc_info, "write")
            record.__dict__.update(fields)
        logger.handle(record)

    def _model(self, level: int) -> dict[str, Any]:
        model = self._models[level] = vars(logging.LogRecord(self._logger.name, level, __file__, 0, "", (), None, "write"))
        return model


def bind_worker(docket: str, worker: str) -> None:
    """This binds, for any structlog logger of this context and those that come of it, whose runs they are."""
    bind_contextvars(**{"docket.name": docket, "docket.worker": worker})


def bind_run(task: str, key: str, attempt: int) -> None:
    """This binds, for any structlog logger of this context and those that come of it, which run speaks. Under a microsecond, so it is done for every run."""
    bind_contextvars(**{"docket.task": task, "docket.key": key, "docket.attempt": attempt})


class Line(str):
    """This is the text of a task's line; it also knows what it was made of."""

    __slots__ = ("event", "fields")

    event: str
    fields: Mapping[str, Any]
    """What is shown behind the event."""


class TaskEvents(structlog.BoundLoggerBase):
    """This is the structlog logger behind a `TaskLogger`: it holds the bound fields and renders events for the standard logger."""

    @classmethod
    def over(cls, logger: logging.Logger, fields: Mapping[str, Any]) -> TaskEvents:
        """This binds the fields to a standard logger."""
        return cls(logger, _PROCESSORS, dict(fields))

    def rendered(self, event: object, fields: dict[str, Any], *, escape: bool) -> tuple[Line, dict[str, Any]]:
        """This gives an event's text and its record's extra fields; `escape` keeps a `%` in a field out of the way of positional arguments."""
        _, rendered = self._process_event("log", None, fields)
        shown = rendered["shown"].replace("%", "%%") if escape else rendered["shown"]
        line = Line(f"{event} {shown}" if shown else str(event))
        line.event, line.fields = str(event), rendered["fields"]
        return line, rendered["extra"]


def _render(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    own = {name: value for name, value in fields.items() if not name.startswith(_IDENTITY)}
    shown = " ".join(f"{name}={value!r}" for name, value in own.items())
    return {"shown": shown, "fields": own, "extra": {f"{name}_" if name in _RESERVED else name: value for name, value in fields.items()}}


_PROCESSORS = (merge_contextvars, _render)
