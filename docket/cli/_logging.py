"""How a command logs: one handler on the root logger renders the standard library's records and structlog's events alike.

What is logged, and under which name, is decided where it happens.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from collections.abc import MutableMapping
from typing import Any

import structlog

__all__ = ["FORMATS", "LEVELS", "set_up_logging"]

LEVELS = ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]
FORMATS = ["rich", "plain", "json"]

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_FIELDS = "structlog_fields"


def set_up_logging(level: str, style: str | None) -> None:
    """This sends everything of at least this level to standard output; the style is `rich` on a terminal and `plain` elsewhere unless said."""
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False  # no style shows them, and every line would look them up
    style = style or ("rich" if sys.stdout.isatty() else "plain")
    logging.basicConfig(level=level, handlers=[_handler(style)], force=True)
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.filter_by_level,
            structlog.stdlib.PositionalArgumentsFormatter(),
            _to_standard_record,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )


def _handler(style: str) -> logging.Handler:
    if style == "rich":
        from rich.logging import RichHandler  # late: heavy, and only for terminals

        handler: logging.Handler = RichHandler(rich_tracebacks=True)
        handler.setFormatter(_TextFormatter("%(message)s"))
        return handler

    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(_JSONFormatter() if style == "json" else _TextFormatter("[%(asctime)s] %(levelname)s - %(name)s - %(message)s"))
    return handler


def _to_standard_record(logger: Any, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """This is structlog's last processor: the event becomes the message, and its fields one `extra`, so that a field may be called `name`."""
    call: dict[str, Any] = {option: event.pop(option) for option in ("exc_info", "stack_info", "stacklevel") if option in event}
    return {"msg": event.pop("event"), "extra": {_FIELDS: dict(event)}, **call}


class _Formatter(logging.Formatter):
    """This writes the time as the standard library does, but works the text out once a second: a busy worker writes many lines in one."""

    def __init__(self, fmt: str | None = None) -> None:
        super().__init__(fmt)
        self._second = 0
        self._text = ""

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - the name is logging's
        second = int(record.created)
        if second != self._second:
            self._text = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(second))
            self._second = second
        return f"{self._text},{int(record.msecs):03d}"


class _TextFormatter(_Formatter):
    """This puts the fields of a structlog event behind its message; docket's own lines, tasks' among them, tell theirs in the message."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the name is logging's
        line = super().formatMessage(record)
        fields: dict[str, Any] | None = getattr(record, _FIELDS, None)
        return " ".join([line, *(f"{name}={value!r}" for name, value in fields.items())]) if fields else line


class _JSONFormatter(_Formatter):
    """This writes a line as one JSON object: `name`, `asctime`, `levelname`, `message`, `exc_info` if any, and every field."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, Any] = {"name": record.name, "asctime": self.formatTime(record), "levelname": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["exc_info"] = self.formatException(record.exc_info)
        if record.stack_info:
            line["stack_info"] = record.stack_info
        extras = {name: value for name, value in vars(record).items() if name not in _STANDARD}
        fields: dict[str, Any] = extras.pop(_FIELDS, {})
        for name, value in (extras | fields).items():
            line[f"{name}_" if name in line else name] = value
        return json.dumps(line, default=str)
