"""Hearing what tasks write to their logs, at every level, while the application's logging sees what it would see anyway."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

from docket._logging import Line

__all__ = ["fields_of", "listening"]

_TASKS = logging.getLogger("docket.task")
_OF_EVERY_RECORD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}

_Hear = Callable[[logging.LogRecord], object]


class _Ear(logging.Handler):
    """The one handler of the tasks' loggers while anybody listens; it hands on to the handlers that were there before what they would have got."""

    def __init__(self) -> None:
        super().__init__()
        self._guard = threading.Lock()
        self._listeners: list[_Hear] = []
        self._former: tuple[int, int, bool, list[logging.Handler]] = 0, 0, True, []

    def add(self, hear: _Hear) -> None:
        with self._guard:
            if not self._listeners:
                self._former = _TASKS.level, _TASKS.getEffectiveLevel(), _TASKS.propagate, _TASKS.handlers
                _TASKS.propagate, _TASKS.handlers = False, [self]
                _TASKS.setLevel(1)
            self._listeners = [*self._listeners, hear]

    def remove(self, hear: _Hear) -> None:
        with self._guard:
            self._listeners = [listener for listener in self._listeners if listener is not hear]
            if not self._listeners:
                level, _, _TASKS.propagate, _TASKS.handlers = self._former
                _TASKS.setLevel(level)

    def emit(self, record: logging.LogRecord) -> None:
        for hear in self._listeners:
            hear(record)
        _, level, propagate, handlers = self._former
        if record.levelno < level and not _is_on_below(record):
            return
        for handler in handlers:
            if record.levelno >= handler.level:
                handler.handle(record)
        if propagate and _TASKS.parent is not None:
            _TASKS.parent.callHandlers(record)


def _is_on_below(record: logging.LogRecord) -> bool:
    """Whether a logger of the record's own, below that of all tasks, has a level: then it is on whatever was set above."""
    logger: logging.Logger | None = logging.getLogger(record.name)
    while logger is not None and logger is not _TASKS:
        if logger.level:
            return True
        logger = logger.parent
    return False


_ear = _Ear()


@contextmanager
def listening(hear: _Hear) -> Generator[None, None, None]:
    """This has `hear` get every record of a logger below `docket.task`, of whatever level, while it is entered."""

    def own(record: logging.LogRecord) -> None:
        hear(record)

    _ear.add(own)
    try:
        yield
    finally:
        _ear.remove(own)


def fields_of(record: logging.LogRecord) -> dict[str, Any]:
    """This gives what a record carries besides its text, without what `logging` and docket put on every record."""
    extra = {name: value for name, value in vars(record).items() if name not in _OF_EVERY_RECORD and not name.startswith("docket.")}
    if not isinstance(record.msg, Line):
        return extra
    own = record.msg.fields
    return {**own, **{name: value for name, value in extra.items() if name.removesuffix("_") not in own and name not in own}}
