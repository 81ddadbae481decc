"""What `docket worker` hands to `Worker.run`: only what was said, by flag or by variable. (That it works: `test_worker.py`.)"""

import asyncio
import sys
from collections.abc import Callable
from datetime import timedelta
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from docket.cli import _worker, app
from docket.cli._options import run

Handed = Callable[..., dict[str, Any]]

STANDARD = {"tasks": ["docket.tasks:standard_tasks"]}


@pytest.fixture
def handed(monkeypatch: pytest.MonkeyPatch) -> Handed:
    """Runs `docket worker` with a stand-in for `Worker`, in this process; gives what it was handed."""
    calls: list[dict[str, Any]] = []

    class StandIn:
        @classmethod
        async def run(cls, **settings: Any) -> None:
            calls.append(settings)

    def nothing(*arguments: Any) -> None: ...

    module = ModuleType("docket.worker")
    monkeypatch.setattr(module, "Worker", StandIn, raising=False)
    monkeypatch.setitem(sys.modules, "docket.worker", module)
    monkeypatch.setattr(_worker, "set_up_logging", nothing)  # the root logger is pytest's
    monkeypatch.setattr(sys, "path", [*sys.path])

    def hand(*arguments: str, **variables: str) -> dict[str, Any]:
        result = CliRunner().invoke(app, ["worker", *arguments], env=variables)
        assert result.exit_code == 0, result.output
        return calls.pop()

    return hand


def test_what_is_not_said_is_left_to_its_default(handed: Handed):
    assert handed() == {**STANDARD, "until_finished": False}


@pytest.mark.parametrize(
    ("flag", "variable", "text", "name", "value"),
    [
        ("--docket", "DOCKET_NAME", "mine", "docket_name", "mine"),
        ("--url", "DOCKET_URL", "redis://here", "url", "redis://here"),
        ("--name", "DOCKET_WORKER_NAME", "w", "name", "w"),
        ("--concurrency", "DOCKET_WORKER_CONCURRENCY", "5", "concurrency", 5),
        ("--threads", "DOCKET_WORKER_THREADS", "5", "threads", 5),
        ("--message-batch", "DOCKET_WORKER_MESSAGE_BATCH", "5", "message_batch", 5),
        ("--redelivery-timeout", "DOCKET_WORKER_REDELIVERY_TIMEOUT", "250ms", "redelivery_timeout", timedelta(milliseconds=250)),
        ("--reconnection-delay", "DOCKET_WORKER_RECONNECTION_DELAY", "5", "reconnection_delay", timedelta(seconds=5)),
        ("--minimum-check-interval", "DOCKET_WORKER_MINIMUM_CHECK_INTERVAL", "5s", "minimum_check_interval", timedelta(seconds=5)),
        ("--scheduling-resolution", "DOCKET_WORKER_SCHEDULING_RESOLUTION", "01:30", "scheduling_resolution", timedelta(seconds=90)),
        ("--grace-period", "DOCKET_WORKER_GRACE_PERIOD", "0", "grace_period", timedelta()),
        ("--stall-limit", "DOCKET_WORKER_STALL_LIMIT", "1h", "stall_limit", timedelta(hours=1)),
        ("--cleanup-timeout", "DOCKET_WORKER_CLEANUP_TIMEOUT", "0", "cleanup_timeout", timedelta()),
        ("--healthcheck-port", "DOCKET_WORKER_HEALTHCHECK_PORT", "8081", "healthcheck_port", 8081),
        ("--metrics-port", "DOCKET_WORKER_METRICS_PORT", "9090", "metrics_port", 9090),
        ("--fallback-task", "DOCKET_FALLBACK_TASK", "a:b", "fallback_task", "a:b"),
        ("--dependencies", "DOCKET_WORKER_DEPENDENCIES", "a:b", "dependencies", "a:b"),
        ("--execution-ttl", "DOCKET_EXECUTION_TTL", "1h", "execution_ttl", timedelta(hours=1)),
        ("--heartbeat-interval", "DOCKET_HEARTBEAT_INTERVAL", "1s", "heartbeat_interval", timedelta(seconds=1)),
        ("--missed-heartbeats", "DOCKET_MISSED_HEARTBEATS", "3", "missed_heartbeats", 3),
        ("--result-storage", "DOCKET_RESULT_STORAGE", "a:b", "result_storage", "a:b"),
        ("--credential-provider", "DOCKET_CREDENTIAL_PROVIDER", "a:b", "credential_provider", "a:b"),
        ("--serializer", "DOCKET_SERIALIZER", "json", "serializer", "json"),
        ("--accept", "DOCKET_ACCEPT", "json", "accept", ("json",)),
        ("--signing-keys", "DOCKET_SIGNING_KEYS", "env:KEYS", "signing_keys", "env:KEYS"),
        ("--no-require-signatures", "DOCKET_REQUIRE_SIGNATURES", "0", "require_signatures", False),
        ("--max-payload-bytes", "DOCKET_MAX_PAYLOAD_BYTES", "1000", "max_payload_bytes", 1000),
        ("--max-deliveries", "DOCKET_MAX_DELIVERIES", "3", "max_deliveries", 3),
        ("--unknown-task-limit", "DOCKET_UNKNOWN_TASK_LIMIT", "2d", "unknown_task_limit", timedelta(days=2)),
        ("--dead-letter-retention", "DOCKET_DEAD_LETTER_RETENTION", "0", "dead_letter_retention", timedelta()),
        ("--dead-letter-count", "DOCKET_DEAD_LETTER_COUNT", "100", "dead_letter_count", 100),
    ],
)
def test_a_setting_is_a_flag_and_a_variable(flag: str, variable: str, text: str, name: str, value: object, handed: Handed):
    expected = {**STANDARD, "until_finished": False, name: value}

    assert handed(flag, *([] if flag.startswith("--no-") else [text])) == expected
    assert handed(**{variable: text}) == expected


@pytest.mark.parametrize("name", ["schedule_automatic_tasks", "enable_internal_instrumentation"])
def test_a_switch_can_be_set_either_way(name: str, handed: Handed):
    flag = name.replace("_", "-")
    variable = f"DOCKET_WORKER_{name.upper()}"

    assert handed(f"--{flag}")[name] is True
    assert handed(f"--no-{flag}")[name] is False
    assert handed(**{variable: "1"})[name] is True
    assert handed(**{variable: "false"})[name] is False
    assert handed(f"--{flag}", **{variable: "false"})[name] is True


def test_until_finished_is_a_flag(handed: Handed):
    assert handed("--until-finished")["until_finished"] is True


def test_tasks_may_be_named_again_and_again(handed: Handed):
    twice = ["docket.tasks:standard_tasks", "docket.tasks:standard_tasks"]

    assert handed("--tasks", twice[0], "--tasks", twice[1])["tasks"] == twice
    assert handed(DOCKET_TASKS=" ".join(twice))["tasks"] == twice


def test_the_current_directory_comes_first_on_the_import_path(handed: Handed, tmp_path: Any, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    handed()
    assert sys.path[0] == str(tmp_path)

    before = list(sys.path)
    handed()
    assert sys.path == before


@pytest.mark.parametrize("installed", [True, False])
def test_the_worker_runs_on_uvloop_where_that_is_installed(installed: bool, monkeypatch: pytest.MonkeyPatch):
    if installed:
        pytest.importorskip("uvloop")
    else:
        monkeypatch.setitem(sys.modules, "uvloop", None)
    loops: list[str] = []

    async def main() -> None:
        loops.append(type(asyncio.get_running_loop()).__module__)

    run(main())

    assert [loop.startswith("uvloop") for loop in loops] == [installed]
