"""Loggers: the standard ones, and the structlog logger behind a task's own lines.

How lines look on a terminal is the command line's business (`docket.cli`); an application sets up logging as it likes.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

import structlog
from structlog.contextvars import bind_contextvars, merge_contextvars
from structlog.typing import EventDict, WrappedLogger

__all__ = ["TaskEvents", "bind_run", "bind_worker", "format_duration", "task_logger"]

_IDENTITY = "docket."
"""Fields whose name starts so tell which run speaks; they go with the record and not into its text."""

_RESERVED = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
"""What `logging` keeps for itself on a record; a field of that name gets an underscore behind it."""


def format_duration(seconds: float) -> str:
    """This gives a duration in a column of fixed width: milliseconds below 100 s, seconds from there on."""
    if seconds < 100:
        return f"{seconds * 1000:6.0f}ms"
    return f"{seconds:6.0f}s "


def task_logger(name: str) -> logging.Logger:
    """This gives the standard logger that the bodies of one task write to."""
    return logging.getLogger(f"docket.task.{name}")


def bind_worker(docket: str, worker: str) -> None:
    """This binds, for any structlog logger of this context and those that come of it, whose runs they are."""
    bind_contextvars(**{"docket.name": docket, "docket.worker": worker})


def bind_run(task: str, key: str, attempt: int) -> None:
    """This binds, for any structlog logger of this context and those that come of it, which run speaks. Under a microsecond, so it is done for every run."""
    bind_contextvars(**{"docket.task": task, "docket.key": key, "docket.attempt": attempt})


class TaskEvents(structlog.BoundLoggerBase):
    """This is the structlog logger behind a `TaskLogger`: it holds the bound fields and renders events for the standard logger."""

    @classmethod
    def over(cls, logger: logging.Logger, fields: Mapping[str, Any]) -> TaskEvents:
        """This binds the fields to a standard logger."""
        return cls(logger, _PROCESSORS, dict(fields))

    def rendered(self, event: object, fields: dict[str, Any], *, escape: bool) -> tuple[str, dict[str, Any]]:
        """This gives an event's text and its record's extra fields; `escape` keeps a `%` in a field out of the way of positional arguments."""
        _, rendered = self._process_event("log", None, fields)
        shown = rendered["shown"].replace("%", "%%") if escape else rendered["shown"]
        return f"{event} {shown}" if shown else str(event), rendered["extra"]


def _render(_logger: WrappedLogger, _method: str, fields: EventDict) -> EventDict:
    shown = " ".join(f"{name}={value!r}" for name, value in fields.items() if not name.startswith(_IDENTITY))
    return {"shown": shown, "extra": {f"{name}_" if name in _RESERVED else name: value for name, value in fields.items()}}


_PROCESSORS = (merge_contextvars, _render)
