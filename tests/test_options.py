"""Options and their defaults; durations as text."""

import os
import socket
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from docket._options import DocketOptions, WorkerOptions, default_worker_name, parse_duration
from docket.errors import DocketError, InvalidOption


class Store:
    """Satisfies `ResultStorage` by shape alone, with wider types, as the stores of py-key-value do."""

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: Any = None) -> None: ...

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None: ...


def test_a_docket_has_the_defaults_its_users_know():
    options = DocketOptions()

    assert options.name == "docket"
    assert options.url == "redis://localhost:6379/0"
    assert options.heartbeat_interval == timedelta(seconds=2)
    assert options.missed_heartbeats == 5
    assert options.execution_ttl == timedelta(minutes=15)
    assert options.result_storage is None
    assert options.enable_internal_instrumentation is False
    assert options.credential_provider is None


def test_a_worker_has_the_defaults_its_users_know():
    options = WorkerOptions()

    assert options.name == default_worker_name() == f"{socket.gethostname()}#{os.getpid()}"
    assert options.concurrency == 10
    assert options.threads is None
    assert options.redelivery_timeout == timedelta(minutes=5)
    assert options.reconnection_delay == timedelta(seconds=5)
    assert options.minimum_check_interval == timedelta(milliseconds=250)
    assert options.scheduling_resolution == timedelta(milliseconds=250)
    assert options.schedule_automatic_tasks is True
    assert options.enable_internal_instrumentation is False
    assert options.message_batch == 1000
    assert options.cleanup_timeout == timedelta(seconds=10)
    assert options.grace_period == timedelta(seconds=30)
    assert options.stall_limit == timedelta(minutes=10)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"name": 5}, id="a name that is no string"),
        pytest.param({"name": "a{b"}, id="an opening brace"),
        pytest.param({"name": "a}b"}, id="a closing brace"),
        pytest.param({"url": ""}, id="no url"),
        pytest.param({"url": None}, id="a url that is None"),
        pytest.param({"heartbeat_interval": timedelta()}, id="no heartbeat interval"),
        pytest.param({"heartbeat_interval": 2}, id="a heartbeat interval in unknown units"),
        pytest.param({"missed_heartbeats": 0}, id="no missed heartbeats"),
        pytest.param({"execution_ttl": timedelta(seconds=-1)}, id="a ttl below zero"),
        pytest.param({"execution_ttl": None}, id="a ttl that is None"),
        pytest.param({"result_storage": {}}, id="a storage that cannot put"),
        pytest.param({"enable_internal_instrumentation": "yes"}, id="a switch that is a word"),
        pytest.param({"credential_provider": "secret"}, id="a provider that cannot provide"),
    ],
)
def test_an_impossible_docket_option_is_refused_by_name(options: dict[str, Any]):
    with pytest.raises(InvalidOption, match=f"^{next(iter(options))} is .*; .*give "):
        DocketOptions(**options)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"name": ""}, id="no name"),
        pytest.param({"concurrency": 0}, id="no concurrency"),
        pytest.param({"concurrency": 1.5}, id="a fraction of a task"),
        pytest.param({"concurrency": True}, id="a concurrency that is a truth"),
        pytest.param({"threads": 0}, id="no threads"),
        pytest.param({"redelivery_timeout": timedelta()}, id="no redelivery timeout"),
        pytest.param({"reconnection_delay": timedelta()}, id="no reconnection delay"),
        pytest.param({"minimum_check_interval": 0.25}, id="a check interval in unknown units"),
        pytest.param({"scheduling_resolution": timedelta(seconds=-1)}, id="a resolution below zero"),
        pytest.param({"schedule_automatic_tasks": 1}, id="a switch that is a number"),
        pytest.param({"enable_internal_instrumentation": None}, id="a switch that is None"),
        pytest.param({"message_batch": 0}, id="no batch"),
        pytest.param({"cleanup_timeout": timedelta(seconds=-1)}, id="a cleanup timeout below zero"),
        pytest.param({"grace_period": timedelta(seconds=-1)}, id="a grace below zero"),
        pytest.param({"grace_period": None}, id="a grace that is None"),
        pytest.param({"stall_limit": timedelta()}, id="no stall limit"),
    ],
)
def test_an_impossible_worker_option_is_refused_by_name(options: dict[str, Any]):
    with pytest.raises(InvalidOption, match=f"^{next(iter(options))} is .*; give "):
        WorkerOptions(**options)


def test_a_refused_option_is_a_value_error_and_one_of_ours():
    with pytest.raises(ValueError, match="message_batch is 0") as caught:
        WorkerOptions(message_batch=0)

    assert isinstance(caught.value, DocketError)


def test_zero_is_a_ttl_a_grace_and_a_cleanup_timeout():
    assert DocketOptions(execution_ttl=timedelta()).execution_ttl == timedelta()
    assert WorkerOptions(cleanup_timeout=timedelta()).cleanup_timeout == timedelta()
    assert WorkerOptions(grace_period=timedelta()).grace_period == timedelta()


def test_any_object_that_puts_and_gets_is_a_result_storage():
    store = Store()

    assert DocketOptions(result_storage=store).result_storage is store


@pytest.mark.parametrize(
    ("text", "duration"),
    [
        ("250ms", timedelta(milliseconds=250)),
        ("5s", timedelta(seconds=5)),
        ("10m", timedelta(minutes=10)),
        ("1h", timedelta(hours=1)),
        ("1d", timedelta(days=1)),
        ("123", timedelta(seconds=123)),
        ("0", timedelta()),
        ("0.5s", timedelta(milliseconds=500)),
        ("01:30", timedelta(minutes=1, seconds=30)),
        ("90:00", timedelta(minutes=90)),
        ("1:02:03", timedelta(hours=1, minutes=2, seconds=3)),
        (" 5 S ", timedelta(seconds=5)),
    ],
)
def test_a_duration_is_read_as_it_is_written(text: str, duration: timedelta):
    assert parse_duration(text) == duration


@pytest.mark.parametrize("text", ["", "s", "five", "-5s", "5x", "1:60", "1:2:3:4", ":30", "1h30m", "1e3", "\u0665s"])
def test_anything_else_is_no_duration_and_the_error_says_how_to_write_one(text: str):
    with pytest.raises(InvalidOption, match="is not a duration; write 250ms, 5s, 10m"):
        parse_duration(text)


@pytest.mark.parametrize("text", ["9999999999999d", "1" * 400 + ".5s"])
def test_a_duration_beyond_what_python_can_hold_is_refused(text: str):
    with pytest.raises(InvalidOption, match="longer than a duration can be"):
        parse_duration(text)


@given(st.text(max_size=12))
def test_no_text_breaks_the_reading_of_durations(text: str):
    try:
        assert parse_duration(text) >= timedelta()
    except InvalidOption:
        pass
