"""`TaskLogger`: the logger of a task's body, which knows which run speaks."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from typing_extensions import Self

from docket.dependencies._base import Injected, RunScope

if TYPE_CHECKING:
    from docket._logging import TaskEvents

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter  # not generic at run time on Python 3.10

__all__ = ["TaskLogger"]


class TaskLogger(Injected, _Adapter):
    """This is the logger of a task: `logger.info("Order sent", order=12)`, or as the standard library has it, `logger.info("Order %s", 12, extra={...})`.

    It writes through the standard logger `docket.task.<name>`, so an application's logging set-up applies. Every record carries
    `docket.name`, `docket.worker`, `docket.task`, `docket.key` and `docket.attempt`; keyword fields are shown behind the message and
    stand on the record too (with an underscore behind the name where `logging` keeps that name for itself).
    """

    if TYPE_CHECKING:

        async def __aenter__(self) -> Self: ...

    def __init__(self, logger: logging.Logger | None = None, fields: Mapping[str, Any] | None = None) -> None:
        logger, fields = logger or logging.getLogger("docket.task"), fields or {}
        _Adapter.__init__(self, logger, fields)
        self._fields = fields
        self._events: TaskEvents | None = None

    def give(self, scope: RunScope) -> TaskLogger:
        from docket._logging import task_logger  # late: brings structlog, and so rich; only workers need it, and have it

        execution = scope.execution
        fields: dict[str, object] = {
            "docket.name": scope.docket.name,
            "docket.worker": scope.worker.name,
            "docket.task": execution.function_name,
            "docket.key": execution.key,
            "docket.attempt": execution.attempt,
        }
        return type(self)(task_logger(execution.function_name), fields)

    def bind(self, **fields: Any) -> Self:
        """This gives a logger that adds these fields to every line."""
        return type(self)(self.logger, {**self._fields, **fields})

    def log(
        self,
        level: int,
        msg: object,
        *args: object,
        exc_info: Any = None,
        stack_info: bool = False,
        stacklevel: int = 1,
        extra: Mapping[str, object] | None = None,
        **fields: object,
    ) -> None:
        """This writes one line, if the level is on."""
        if not self.isEnabledFor(level):
            return
        if self._events is None:
            from docket._logging import TaskEvents  # late, as above

            self._events = TaskEvents.over(self.logger, self._fields)
        text, known = self._events.rendered(msg, fields, escape=bool(args))
        self.logger.log(level, text, *args, exc_info=exc_info, stack_info=stack_info, stacklevel=stacklevel + 1, extra={**known, **extra} if extra else known)
