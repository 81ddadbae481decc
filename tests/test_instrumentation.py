"""Instruments, trace context in messages, and the two servers of a worker."""

import http.client
import os
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from docket.errors import InvalidOption, LoadError
from docket.instrumentation import healthcheck_server, message_getter, message_setter, metrics_server

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def get(port: int | None, path: str = "/") -> tuple[int, str]:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()


def test_a_trace_context_goes_into_a_message_and_comes_out_again():
    propagator = TraceContextTextMapPropagator()
    message: dict[bytes, bytes] = {}

    context = propagator.extract({b"traceparent": PARENT.encode()}, getter=message_getter)
    propagator.inject(message, context=context, setter=message_setter)

    assert message == {b"traceparent": PARENT.encode()}


def test_a_message_tells_its_fields_and_what_it_lacks():
    message: dict[bytes, bytes] = {}
    message_setter.set(message, "traceparent", PARENT)

    assert message_getter.keys(message) == ["traceparent"]
    assert message_getter.get(message, "traceparent") == [PARENT]
    assert message_getter.get(message, "tracestate") is None


def test_without_a_port_nothing_is_served():
    with healthcheck_server() as health, metrics_server() as metrics:
        assert health is None
        assert metrics is None


def test_alive_and_ready_are_two_questions():
    trouble = {"live": "", "ready": ""}

    with healthcheck_server("127.0.0.1", 0, live=lambda: trouble["live"] or None, ready=lambda: trouble["ready"] or None) as port:
        assert get(port) == get(port, "/readyz") == get(port, "/livez?verbose") == (200, "OK")

        trouble["ready"] = "draining"
        assert get(port) == get(port, "/readyz") == (503, "draining")
        assert get(port, "/livez") == (200, "OK")

        trouble["live"] = "the event loop has not turned for 31 s"
        assert get(port, "/livez") == (503, trouble["live"])


def test_other_paths_are_told_which_there_are():
    with healthcheck_server("127.0.0.1", 0) as port:
        assert get(port, "/metrics") == (404, "there are /livez, /readyz and /")


def test_a_probe_may_ask_for_the_head_only():
    with healthcheck_server("127.0.0.1", 0, ready=lambda: "starting") as port:
        connection = http.client.HTTPConnection("127.0.0.1", port or 0, timeout=5)
        connection.request("HEAD", "/readyz")
        response = connection.getresponse()
        assert (response.status, response.read()) == (503, b"")
        connection.close()


def test_a_health_check_is_fine_when_nobody_is_asked():
    with healthcheck_server("127.0.0.1", 0) as port:
        assert get(port) == (200, "OK")


def test_a_port_is_free_again_after_its_server():
    with healthcheck_server("127.0.0.1", 0) as port:
        pass

    with healthcheck_server("127.0.0.1", port) as again:
        assert again == port


def test_a_taken_port_is_refused_by_number():
    with healthcheck_server("127.0.0.1", 0) as taken:
        with pytest.raises(InvalidOption, match=f"Cannot serve health checks on port {taken} of 127.0.0.1: .*; give another port"):
            healthcheck_server("127.0.0.1", taken).__enter__()

        with pytest.raises(InvalidOption, match=f"Cannot serve metrics on port {taken} of 127.0.0.1: .*; give another port"):
            metrics_server("127.0.0.1", taken).__enter__()


def test_metrics_without_the_extra_name_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "prometheus_client", None)

    with pytest.raises(LoadError, match=r"pydocket\[metrics\]") as caught:
        metrics_server("127.0.0.1", 0).__enter__()

    assert isinstance(caught.value, ImportError)


def test_metrics_are_served_as_prometheus_text(tmp_path: Path):
    # in a process of its own: OpenTelemetry takes one meter provider for the life of a process
    program = """
import urllib.request
from docket import instrumentation

for _ in range(2):
    with instrumentation.metrics_server("127.0.0.1", 0) as port:
        instrumentation.TASKS_ADDED.add(1, {"docket.name": "mine"})
        instrumentation.TASK_DURATION.record(0.25, {"docket.name": "mine"})
        print(urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics").read().decode())
"""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    served = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=env, capture_output=True, text=True, check=True)

    assert 'docket_tasks_added_total{docket_name="mine"' in served.stdout
    assert "docket_task_duration_seconds_sum{" in served.stdout
