"""Sentry: each run that failed is reported once, with what is known of it.

What a worker reports of its own (a duty that failed, an outage) it logs, and Sentry's logging integration takes that from the log, as it does for any
program. The line about a failed run carries the same exception as the report, so Sentry leaves it out.
"""

from __future__ import annotations

from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, cast

from docket._context import onlookers
from docket._worker._report import called
from docket.integrations._extras import not_installed

try:
    import sentry_sdk
    from sentry_sdk.integrations import Integration
    from sentry_sdk.tracing import TransactionSource
    from sentry_sdk.tracing_utils import has_tracing_enabled
    from sentry_sdk.utils import event_from_exception
except ImportError as exc:
    raise not_installed("sentry", exc, "sentry_sdk") from exc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentry_sdk.types import Event, Hint

    from docket.execution import Execution

__all__ = ["DocketIntegration"]


class DocketIntegration(Integration):
    """This reports failed runs of this process's workers: `sentry_sdk.init(integrations=[DocketIntegration()])`.

    One event for each run that ends FAILED, in the isolation scope of that run (tags, user and breadcrumbs that the task sets are its own), with a
    context `docket`: task, key, attempt, worker and the call as log lines show it, so without the values of arguments that are not annotated `Logged`.
    Sentry shows local variables besides, the task's own among them, unless `sentry_sdk.init(include_local_variables=False)` says otherwise;
    those of docket's frames never are. A run that gave up with `Discard` is a warning. With `report_retries`, attempts that are tried again
    are reported as well, as warnings. A failure that a `FailureHandler` dealt with is not.

    Where tracing is on, a run is a transaction; it belongs to the trace that it was scheduled in, if OpenTelemetry was there to say so.
    """

    identifier = "docket"

    def __init__(self, *, report_retries: bool = False) -> None:
        self.report_retries = report_retries

    @staticmethod
    def setup_once() -> None:
        """This is Sentry's to call, once in a process."""
        onlookers[DocketIntegration.identifier] = _Onlooker()


class _Onlooker:
    """This gives every run a scope of its own, and captures what it fails of."""

    def __init__(self) -> None:
        self._scopes: dict[Execution[Any], ExitStack] = {}

    def began(self, execution: Execution[Any]) -> None:
        client = sentry_sdk.get_client()
        if client.get_integration(DocketIntegration) is None:
            return  # Sentry was initialised again, without it
        stack = self._scopes[execution] = ExitStack()
        scope = stack.enter_context(sentry_sdk.isolation_scope())
        scope.clear_breadcrumbs()
        scope.set_transaction_name(execution.function_name, source=TransactionSource.TASK)
        scope.set_tags({"docket.name": execution.docket.name, "docket.task": execution.function_name, "docket.key": execution.key})
        scope.set_context("docket", _told(execution))
        scope.add_event_processor(_without_our_variables)
        transaction = sentry_sdk.continue_trace(
            _headers(execution.trace_context or {}),
            op="queue.process",
            name=execution.function_name,
            source=TransactionSource.TASK,
            origin="auto.queue.docket",
        )
        if has_tracing_enabled(client.options):
            stack.enter_context(sentry_sdk.start_transaction(transaction)).set_status("ok")

    def failed(self, execution: Execution[Any], exception: BaseException, became: str) -> None:
        client = sentry_sdk.get_client()
        integration = client.get_integration(DocketIntegration)
        if not isinstance(integration, DocketIntegration) or (became == "retried" and not integration.report_retries):
            return
        span = sentry_sdk.get_current_span()
        if span is not None:
            span.set_status("internal_error")
        event, hint = event_from_exception(exception, client_options=client.options, mechanism={"type": "docket", "handled": False})
        event["level"] = "error" if became == "failed" else "warning"
        sentry_sdk.capture_event(event, hint)

    def left(self, execution: Execution[Any]) -> None:
        stack = self._scopes.pop(execution, None)
        if stack is not None:
            stack.close()


def _told(execution: Execution[Any]) -> dict[str, object]:
    return {
        "docket": execution.docket.name,
        "task": execution.function_name,
        "key": execution.key,
        "call": called(execution),
        "attempt": execution.attempt,
        "worker": execution.worker,
        "when": execution.when.isoformat(),
        "redelivered": execution.redelivered,
    }


def _headers(trace_context: Mapping[str, str]) -> dict[str, str]:
    """What Sentry takes for the trace that a run belongs to: the W3C header, spelled its way."""
    parts = trace_context.get("traceparent", "").split("-")
    return {"sentry-trace": f"{parts[1]}-{parts[2]}"} if len(parts) == 4 else {}


def _without_our_variables(event: Event, hint: Hint) -> Event:
    """Local variables of docket's own frames are the arguments of the task over and over, whether `Logged` or not."""
    told = cast("dict[str, Any]", event)
    exceptions: list[dict[str, Any]] = told.get("exception", {}).get("values", [])
    for exception in exceptions:
        stacktrace = cast("dict[str, list[dict[str, Any]]]", exception.get("stacktrace") or {})
        for frame in stacktrace.get("frames", []):
            if f"{frame.get('module')}.".startswith("docket."):
                frame.pop("vars", None)
    return event
