"""What docket tells the world about itself: OpenTelemetry instruments and tracers, and the two small HTTP servers of a worker.

Everything here goes through the OpenTelemetry API, so it costs next to nothing until an SDK is set up. When to count and
when to open a span is decided where the step happens.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Generator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from threading import Thread
from time import monotonic
from typing import TYPE_CHECKING

from opentelemetry import metrics, trace
from opentelemetry.propagators.textmap import Getter, Setter
from opentelemetry.util.types import AttributeValue

from docket.errors import InvalidOption, LoadError

if TYPE_CHECKING:
    from opentelemetry.exporter.prometheus import PrometheusMetricReader

__all__ = [
    "CACHE_SIZE",
    "DEAD_LETTERS",
    "QUEUE_DEPTH",
    "REDIS_DISRUPTIONS",
    "SCHEDULE_DEPTH",
    "STRIKES_IN_EFFECT",
    "TASKS_ADDED",
    "TASKS_CANCELLED",
    "TASKS_COMPLETED",
    "TASKS_FAILED",
    "TASKS_PERPETUATED",
    "TASKS_REDELIVERED",
    "TASKS_REPLACED",
    "TASKS_RETRIED",
    "TASKS_RUNNING",
    "TASKS_SCHEDULED",
    "TASKS_STARTED",
    "TASKS_STRICKEN",
    "TASKS_SUCCEEDED",
    "TASKS_SUPERSEDED",
    "TASK_DURATION",
    "TASK_PUNCTUALITY",
    "healthcheck_server",
    "is_metered",
    "is_traced",
    "message_getter",
    "message_setter",
    "messaging_attributes",
    "meter",
    "metrics_server",
    "span",
    "tracer",
    "worker_tracer",
]

meter = metrics.get_meter("docket")
"""What makes the instruments."""
tracer = trace.get_tracer("docket.docket")
"""What makes the spans of those who schedule."""
worker_tracer = trace.get_tracer("docket.worker")
"""What makes the spans of runs."""

TASKS_ADDED = meter.create_counter("docket_tasks_added", description="Tasks added to the docket", unit="1")
"""`docket_tasks_added` counts tasks added to the docket."""
TASKS_REPLACED = meter.create_counter("docket_tasks_replaced", description="Tasks replaced on the docket", unit="1")
"""`docket_tasks_replaced` counts tasks replaced on the docket."""
TASKS_SCHEDULED = meter.create_counter("docket_tasks_scheduled", description="Tasks added or replaced", unit="1")
"""`docket_tasks_scheduled` counts tasks added or replaced."""
TASKS_CANCELLED = meter.create_counter("docket_tasks_cancelled", description="Tasks cancelled", unit="1")
"""`docket_tasks_cancelled` counts tasks cancelled."""
TASKS_STARTED = meter.create_counter("docket_tasks_started", description="Runs that workers started", unit="1")
"""`docket_tasks_started` counts runs that workers started."""
TASKS_REDELIVERED = meter.create_counter("docket_tasks_redelivered", description="Runs taken over from a worker that died", unit="1")
"""`docket_tasks_redelivered` counts runs taken over from a worker that died."""
TASKS_STRICKEN = meter.create_counter("docket_tasks_stricken", description="Tasks stopped by a strike", unit="1")
"""`docket_tasks_stricken` counts tasks stopped by a strike."""
TASKS_SUPERSEDED = meter.create_counter("docket_tasks_superseded", description="Runs that another took the place of", unit="1")
"""`docket_tasks_superseded` counts runs that another took the place of."""
TASKS_COMPLETED = meter.create_counter("docket_tasks_completed", description="Runs that ended, well or not", unit="1")
"""`docket_tasks_completed` counts runs that ended, well or not."""
TASKS_FAILED = meter.create_counter("docket_tasks_failed", description="Runs that ended with an exception", unit="1")
"""`docket_tasks_failed` counts runs that ended with an exception."""
TASKS_SUCCEEDED = meter.create_counter("docket_tasks_succeeded", description="Runs that ended well", unit="1")
"""`docket_tasks_succeeded` counts runs that ended well."""
TASKS_RETRIED = meter.create_counter("docket_tasks_retried", description="Runs put back for another attempt", unit="1")
"""`docket_tasks_retried` counts runs put back for another attempt."""
TASKS_PERPETUATED = meter.create_counter("docket_tasks_perpetuated", description="Runs that scheduled their next one", unit="1")
"""`docket_tasks_perpetuated` counts runs that scheduled their next one."""
REDIS_DISRUPTIONS = meter.create_counter("docket_redis_disruptions", description="Times that Redis went away", unit="1")
"""`docket_redis_disruptions` counts times that Redis went away."""

_NO_SPAN = nullcontext(trace.INVALID_SPAN)

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 900.0, 3600.0)
"""The buckets' upper bounds: tasks take from a millisecond to an hour. OpenTelemetry's own are meant for milliseconds."""

TASK_DURATION = meter.create_histogram("docket_task_duration", description="How long a run took", unit="s", explicit_bucket_boundaries_advisory=_SECONDS)
"""`docket_task_duration` is how long a run took, in seconds."""
TASK_PUNCTUALITY = meter.create_histogram(
    "docket_task_punctuality", description="How long after it was due a run started", unit="s", explicit_bucket_boundaries_advisory=_SECONDS
)
"""`docket_task_punctuality` is how long after it was due a run started, in seconds."""

TASKS_RUNNING = meter.create_up_down_counter("docket_tasks_running", description="Tasks running now", unit="1")
"""`docket_tasks_running` is how many there are: tasks running now."""
STRIKES_IN_EFFECT = meter.create_up_down_counter("docket_strikes_in_effect", description="Strikes in effect now", unit="1")
"""`docket_strikes_in_effect` is how many there are: strikes in effect now."""

QUEUE_DEPTH = meter.create_gauge("docket_queue_depth", description="Tasks that could run now", unit="1")
"""`docket_queue_depth` is how many there are: tasks that could run now."""
SCHEDULE_DEPTH = meter.create_gauge("docket_schedule_depth", description="Tasks scheduled for later", unit="1")
"""`docket_schedule_depth` is how many there are: tasks scheduled for later."""
DEAD_LETTERS = meter.create_gauge("docket_dead_letters", description="Dead letters that are kept", unit="1")
"""`docket_dead_letters` is how many there are: dead letters that are kept."""
CACHE_SIZE = meter.create_gauge("docket_cache_size", description="Entries in docket's own caches", unit="1")
"""`docket_cache_size` is how many there are: entries in docket's own caches."""


def is_traced() -> bool:
    """This says whether spans go anywhere: a span that nobody records would still cost its making."""
    return not isinstance(trace.get_tracer_provider(), (trace.ProxyTracerProvider, trace.NoOpTracerProvider))


def is_metered() -> bool:
    """This says whether anybody listens to the instruments: the API's own meter providers drop what they are told."""
    return not type(metrics.get_meter_provider()).__module__.startswith("opentelemetry.metrics")


class Listeners:
    """This remembers who listens, for a second: to look takes as long as a twentieth of an `add`."""

    __slots__ = ("_until", "metered", "traced")

    def __init__(self) -> None:
        self._until = 0.0
        self.metered = False
        """Whether metrics go anywhere."""
        self.traced = False
        """Whether spans go anywhere."""

    def now(self) -> Listeners:
        """This looks again, if it is time to."""
        now = monotonic()
        if now >= self._until:
            self._until = now + 1.0
            self.metered, self.traced = is_metered(), is_traced()
        return self


def span(name: str, attributes: Mapping[str, AttributeValue]) -> AbstractContextManager[trace.Span]:
    """This is a span of one call of a caller's, if spans go anywhere."""
    return tracer.start_as_current_span(name, attributes=attributes) if is_traced() else _NO_SPAN


def messaging_attributes(docket: str, operation: str, kind: str) -> dict[str, str]:
    """This gives what OpenTelemetry's semantic conventions for messaging ask of a span; `kind` is `send` or `process`.

    See https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/.
    """
    return {
        "messaging.system": "docket",
        "messaging.destination.name": docket,
        "messaging.operation.name": operation,
        "messaging.operation.type": kind,
    }


class _MessageGetter(Getter[dict[bytes, bytes]]):
    def get(self, carrier: dict[bytes, bytes], key: str) -> list[str] | None:
        value = carrier.get(key.encode())
        return None if value is None else [value.decode()]

    def keys(self, carrier: dict[bytes, bytes]) -> list[str]:
        return [key.decode() for key in carrier]


class _MessageSetter(Setter[dict[bytes, bytes]]):
    def set(self, carrier: dict[bytes, bytes], key: str, value: str) -> None:
        carrier[key.encode()] = value.encode()


message_getter: Getter[dict[bytes, bytes]] = _MessageGetter()
"""Reads a trace context out of a message, for OpenTelemetry propagators."""
message_setter: Setter[dict[bytes, bytes]] = _MessageSetter()
"""Writes a trace context into a message, for OpenTelemetry propagators."""


_EVERYWHERE = "0.0.0.0"  # noqa: S104 - probes and scrapers come from outside the container


Check = Callable[[], "str | None"]
"""This says why something is not as it should be; None: it is."""


def _always_fine() -> str | None:
    return None


@contextmanager
def healthcheck_server(
    host: str = _EVERYWHERE, port: int | None = None, *, live: Check = _always_fine, ready: Check = _always_fine
) -> Generator[int | None, None, None]:
    """This answers `GET /livez` and `GET /readyz` (and `/`, the same as `/readyz`), from a thread of its own: 200, or 503 and why not.

    Gives the port (0 asks for a free one); without a port it does nothing and gives None. Raises `InvalidOption` when
    the port cannot be had.
    """
    if port is None:
        yield None
        return

    # late: a quarter of a command's start-up time, for one option
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    checks = {"/livez": live, "/readyz": ready, "/": ready}

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            check = checks.get(self.path.partition("?")[0])
            if check is None:
                self._answer(404, "there are /livez, /readyz and /")
                return
            trouble = check()
            self._answer(200 if trouble is None else 503, trouble or "OK")

        do_HEAD = do_GET  # noqa: N815 - the name is the base class's

        def _answer(self, status: int, text: str) -> None:
            body = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "text/plain; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name is the base class's
            """Probes come every few seconds; they are no news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as exc:
        raise _cannot_listen("health checks", host, port, exc) from exc

    with server:
        thread = Thread(target=server.serve_forever, args=(0.1,), name="docket-healthcheck", daemon=True)
        thread.start()
        try:
            yield server.server_port
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def metrics_server(host: str = _EVERYWHERE, port: int | None = None) -> Generator[int | None, None, None]:
    """This serves docket's metrics as Prometheus text, from a thread of its own.

    Gives the port (0 asks for a free one); without a port it does nothing and gives None. Raises `LoadError` (an
    ImportError) when the `metrics` extra is not installed, and `InvalidOption` when the port cannot be had.
    """
    if port is None:
        yield None
        return

    # late: an optional extra
    try:
        from opentelemetry.exporter.prometheus import PrometheusMetricReader
        from prometheus_client import start_http_server
    except ImportError as exc:
        raise LoadError("Serving metrics needs the metrics extra; install it with: pip install 'pydocket[metrics]'") from exc

    try:
        server, thread = start_http_server(port, host)
    except OSError as exc:
        raise _cannot_listen("metrics", host, port, exc) from exc

    _export_through(PrometheusMetricReader)
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _cannot_listen(purpose: str, host: str, port: int, exc: OSError) -> InvalidOption:
    return InvalidOption(f"Cannot serve {purpose} on port {port} of {host}: {exc.strerror or exc}; give another port")


@functools.cache  # OpenTelemetry takes one meter provider per process
def _export_through(reader: type[PrometheusMetricReader]) -> None:
    from opentelemetry.sdk.metrics import AlwaysOffExemplarFilter, MeterProvider  # late, as above

    # Without exemplars, which cost as much as a counter and of which Prometheus' text form shows nothing
    metrics.set_meter_provider(MeterProvider(metric_readers=[reader()], exemplar_filter=AlwaysOffExemplarFilter()))
