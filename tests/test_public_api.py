"""What is public stays as it is: the names of the package, and how its classes and functions may be called.

A row may be added to. A row that has to change breaks somebody's code: that is for the changelog, with a deprecation before it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

import docket
from docket import dependencies, execution, instrumentation, tasks, testing
from docket.docket import Docket, DocketSnapshot, Executions, RunningExecution, SyncClient, SyncExecution, WorkerInfo
from docket.errors import DocketError
from docket.execution import Execution, ExecutionProgress, TaskCall
from docket.integrations import django as for_django
from docket.integrations import fastapi as for_fastapi
from docket.integrations import sentry as for_sentry
from docket.strikelist import Operator, Restore, Strike, StrikeInstruction, StrikeList
from docket.worker import Worker

NAMES = [
    "Cancel",
    "ConcurrencyLimit",
    "Cooldown",
    "Cron",
    "CurrentDocket",
    "CurrentExecution",
    "CurrentWorker",
    "CycleError",
    "Debounce",
    "Depends",
    "Discard",
    "Disposition",
    "Docket",
    "DocketError",
    "Execution",
    "ExecutionCancelled",
    "ExecutionProgress",
    "ExecutionState",
    "ExecutionSuperseded",
    "ExponentialRetry",
    "ForcedRetry",
    "Handle",
    "Logged",
    "Options",
    "Perpetual",
    "RateLimit",
    "Retry",
    "Scheduler",
    "Snooze",
    "StrikeList",
    "SyncClient",
    "SyncExecution",
    "SyncTask",
    "Task",
    "TaskCall",
    "TaskKey",
    "TaskLogger",
    "Timeout",
    "Worker",
    "__version__",
    "task",
    "testing",
]

handle: Any = docket.Handle
options: Any = docket.Options
EQUAL = "<Operator.EQUAL: '=='>"

# How each may be called: the parameters in order, with their defaults (a timedelta as h:mm:ss). Others of ours may follow, as long as nobody has to give them.
CALLS: dict[str, tuple[Callable[..., Any], str]] = {
    # Docket
    "Docket": (
        Docket,
        (
            "name='docket', url='redis://localhost:6379/0', heartbeat_interval=0:00:02, missed_heartbeats=5, execution_ttl=0:15:00, result_storage=None, "
            "enable_internal_instrumentation=False, credential_provider=None"
        ),
    ),
    "Docket.task": (Docket.task, "function=None, /, *, name=None"),
    "Docket.register": (Docket.register, "function, names=None"),
    "Docket.register_collection": (Docket.register_collection, "collection_path"),
    "Docket.add": (Docket.add, "function, when=None, key=None"),
    "Docket.replace": (Docket.replace, "function, when, key"),
    "Docket.call": (Docket.call, "function, when=None, key=None"),
    "Docket.add_many": (Docket.add_many, "calls, *, chunk_size=1000"),
    "Docket.replace_many": (Docket.replace_many, "calls, *, chunk_size=1000"),
    "Docket.schedule": (Docket.schedule, "call, *, replace=False"),
    "Docket.cancel": (Docket.cancel, "key"),
    "Docket.get_execution": (Docket.get_execution, "key"),
    "Docket.strike": (Docket.strike, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    "Docket.restore": (Docket.restore, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    "Docket.wait_for_strikes_loaded": (Docket.wait_for_strikes_loaded, ""),
    "Docket.events": (Docket.events, "*, ready=None, include_progress=False"),
    "Docket.executions": (Docket.executions, "*, state=None, task=None, key_prefix=None, limit=None"),
    "Executions.page": (Executions.page, "cursor=None, size=100"),
    "Docket.counts": (Docket.counts, ""),
    "Docket.snapshot": (Docket.snapshot, ""),
    "Docket.workers": (Docket.workers, ""),
    "Docket.task_workers": (Docket.task_workers, "task_name"),
    "Docket.clear": (Docket.clear, ""),
    "DocketSnapshot": (DocketSnapshot, "taken, total_tasks, future, running, workers"),
    "RunningExecution": (RunningExecution, "execution, worker, started"),
    "WorkerInfo": (WorkerInfo, "name, last_seen, tasks"),
    "Docket.redis": (Docket.redis, ""),
    "Docket.labels": (Docket.labels, ""),
    "Docket.key": (Docket.key, "suffix"),
    "Docket.sync": (Docket.sync, ""),
    "SyncClient.add": (SyncClient.add, "function, when=None, key=None"),
    "SyncClient.replace": (SyncClient.replace, "function, when, key"),
    "SyncClient.schedule": (SyncClient.schedule, "call, *, replace=False"),
    "SyncClient.run": (SyncClient.run, "awaitable"),
    "SyncClient.each": (SyncClient.each, "source"),
    "SyncClient.close": (SyncClient.close, ""),
    # Handles
    "task": (docket.task, "function=None, /, *, name=None"),
    "Handle.schedule": (handle.schedule, "*args, key=None, when=None, **kwargs"),
    "Handle.replace": (handle.replace, "*args, key, when=None, **kwargs"),
    "Handle.options": (handle.options, "*, key=None, when=None"),
    "Handle.call": (handle.call, "*args, **kwargs"),
    "Handle.cancel": (handle.cancel, "key"),
    "Options.schedule": (options.schedule, "*args, **kwargs"),
    "Options.replace": (options.replace, "*args, **kwargs"),
    "Options.call": (options.call, "*args, **kwargs"),
    # Executions
    "Execution": (
        Execution,
        ("docket, function, args, kwargs, key, when, attempt, trace_context=None, redelivered=False, function_name=None, generation=0, message_id=None"),
    ),
    "Execution.get_result": (Execution.get_result, "*, timeout=None, deadline=None"),
    "Execution.sync": (Execution.sync, ""),
    "Execution.subscribe": (Execution.subscribe, "*, ready=None"),
    "Execution.schedule": (Execution.schedule, "*, replace=False"),
    "Execution.reschedule": (Execution.reschedule, "when"),
    "Execution.promote": (Execution.promote, ""),
    "Execution.retry": (Execution.retry, ""),
    "Execution.cancel": (Execution.cancel, ""),
    "Execution.is_superseded": (Execution.is_superseded, ""),
    "Execution.get_argument": (Execution.get_argument, "parameter"),
    "Execution.call_repr": (Execution.call_repr, ""),
    "Execution.general_labels": (Execution.general_labels, ""),
    "Execution.specific_labels": (Execution.specific_labels, ""),
    "Execution.incoming_span_links": (Execution.incoming_span_links, ""),
    "ExecutionProgress": (ExecutionProgress, "docket, key"),
    "ExecutionProgress.create": (ExecutionProgress.create, "docket, key"),
    "ExecutionProgress.set_total": (ExecutionProgress.set_total, "total"),
    "ExecutionProgress.increment": (ExecutionProgress.increment, "amount=1"),
    "ExecutionProgress.set_message": (ExecutionProgress.set_message, "message"),
    "ExecutionProgress.sync": (ExecutionProgress.sync, ""),
    "ExecutionProgress.subscribe": (ExecutionProgress.subscribe, "*, ready=None"),
    "TaskCall": (TaskCall, "function, args, kwargs, key, when=None, function_name=None"),
    # Worker
    "Worker": (
        Worker,
        (
            "docket, name=None, concurrency=10, redelivery_timeout=0:05:00, reconnection_delay=0:00:05, minimum_check_interval=0:00:00.250000, "
            "scheduling_resolution=0:00:00.250000, schedule_automatic_tasks=True, enable_internal_instrumentation=False, fallback_task=None, dependencies=None, "
            "message_batch=1000"
        ),
    ),
    "Worker.run_forever": (Worker.run_forever, ""),
    "Worker.run_until_finished": (Worker.run_until_finished, ""),
    "Worker.run_at_most": (Worker.run_at_most, "iterations_by_key"),
    "Worker.stop": (Worker.stop, ""),
    "Worker.labels": (Worker.labels, ""),
    "Worker.override": (Worker.override, "dependency, stand_in"),
    "Worker.run": (  # None: as the options of docket and worker say, or the docket that `tasks` names
        Worker.run,
        (
            "docket_name=None, url=None, name=None, concurrency=None, redelivery_timeout=None, reconnection_delay=None, minimum_check_interval=None, "
            "scheduling_resolution=None, schedule_automatic_tasks=None, enable_internal_instrumentation=None, until_finished=False, healthcheck_port=None, "
            "metrics_port=None, tasks=('docket.tasks:standard_tasks',), fallback_task=None, message_batch=None, dependencies=None"
        ),
    ),
    # Dependencies and behaviours
    "Depends": (dependencies.Depends, "dependency, /, **bindings"),
    "Shared": (dependencies.Shared, "factory, /"),
    "CurrentDocket": (dependencies.CurrentDocket, ""),
    "CurrentWorker": (dependencies.CurrentWorker, ""),
    "CurrentExecution": (dependencies.CurrentExecution, ""),
    "TaskKey": (dependencies.TaskKey, ""),
    "TaskArgument": (dependencies.TaskArgument, "parameter=None, optional=False"),
    "TaskLogger": (dependencies.TaskLogger, ""),
    "Retry": (dependencies.Retry, "attempts=1, delay=None"),
    "Retry.forever": (dependencies.Retry.forever, "delay=0:00:00"),
    "Retry.after": (dependencies.Retry.after, "delay"),
    "Retry.at": (dependencies.Retry.at, "when"),
    "ExponentialRetry": (dependencies.ExponentialRetry, "attempts=1, minimum_delay=0:00:01, maximum_delay=0:01:04"),
    "ExponentialRetry.forever": (dependencies.ExponentialRetry.forever, "delay=0:00:01, maximum_delay=0:01:04"),
    "Perpetual": (dependencies.Perpetual, "every=None, automatic=False, *, interval=None"),
    "Perpetual.cancel": (dependencies.Perpetual.cancel, ""),
    "Perpetual.perpetuate": (dependencies.Perpetual.perpetuate, "*args, **kwargs"),
    "Perpetual.after": (dependencies.Perpetual.after, "delay"),
    "Perpetual.at": (dependencies.Perpetual.at, "when"),
    "Timeout": (dependencies.Timeout, "base"),
    "Timeout.start": (dependencies.Timeout.start, ""),
    "Timeout.expired": (dependencies.Timeout.expired, ""),
    "Timeout.remaining": (dependencies.Timeout.remaining, ""),
    "Timeout.extend": (dependencies.Timeout.extend, "by=None"),
    # The testing kit
    "assert_task_scheduled": (testing.assert_task_scheduled, "docket, function, *, args=None, kwargs=None, key=None"),
    "assert_task_not_scheduled": (testing.assert_task_not_scheduled, "docket, function, *, args=None, kwargs=None, key=None"),
    "assert_task_count": (testing.assert_task_count, "docket, function=None, *, count"),
    "assert_no_tasks": (testing.assert_no_tasks, "docket"),
    "run_task": (testing.run_task, "function, /, *args, overrides=None, docket=None, raises=True, **kwargs"),
    "drain": (
        testing.drain,
        "target, /, *, until=None, weeks=0, days=0, hours=0, minutes=0, seconds=0, milliseconds=0, automatic=None, raises=True, at_most=10000",
    ),
    "MovableClock": (testing.MovableClock, "start=None, *, ticking=True"),
    "MovableClock.advance": (testing.MovableClock.advance, "by=None, *, weeks=0, days=0, hours=0, minutes=0, seconds=0, milliseconds=0"),
    "MovableClock.move_to": (testing.MovableClock.move_to, "moment"),
    # Strikes
    "StrikeList": (StrikeList, "url=None, name='strikelist', enable_internal_instrumentation=False, credential_provider=None"),
    "StrikeList.strike": (StrikeList.strike, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    "StrikeList.restore": (StrikeList.restore, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    "StrikeList.send_instruction": (StrikeList.send_instruction, "instruction"),
    "StrikeList.update": (StrikeList.update, "instruction"),
    "StrikeList.is_stricken": (StrikeList.is_stricken, "target"),
    "StrikeList.add_condition": (StrikeList.add_condition, "condition"),
    "StrikeList.remove_condition": (StrikeList.remove_condition, "condition"),
    "StrikeList.wait_for_strikes_loaded": (StrikeList.wait_for_strikes_loaded, ""),
    "Strike": (Strike, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    "Restore": (Restore, f"function=None, parameter=None, operator={EQUAL}, value=None"),
    # The tasks of every docket, and the two servers
    "trace": (tasks.trace, "message"),
    "fail": (tasks.fail, "message"),
    "sleep": (tasks.sleep, "seconds"),
    # Integrations
    "integrations.fastapi.lifespan": (for_fastapi.lifespan, "docket, *, worker=False, inside=None"),
    "integrations.fastapi.Background.add": (for_fastapi.Background.add, "function, when=None, key=None"),
    "integrations.fastapi.Background.add_task": (for_fastapi.Background.add_task, "task, *args, **kwargs"),
    "integrations.django.schedule_on_commit": (
        for_django.schedule_on_commit,
        "task, /, *args, key=None, when=None, using=None, robust=False, **kwargs",
    ),
    "integrations.django.get_docket": (for_django.get_docket, ""),
    "integrations.sentry.DocketIntegration": (for_sentry.DocketIntegration, "*, report_retries=False"),
    # Servers
    "healthcheck_server": (instrumentation.healthcheck_server, "host='0.0.0.0', port=None"),
    "metrics_server": (instrumentation.metrics_server, "host='0.0.0.0', port=None"),
}

ATTRIBUTES = {
    "Docket": (
        "clock credential_provider enable_internal_instrumentation execution_ttl heartbeat_interval is_entered missed_heartbeats name prefix result_storage "
        "results_collection strike_list tasks url worker_group_name"
    ),
    "Execution": (
        "args attempt completed_at disposition docket error function function_name generation key kwargs message_id progress redelivered result_key "
        "schedule_exception started_at state stopping trace_context when worker"
    ),
    "ExecutionProgress": "current docket key message total updated_at",
    "Handle": "docket function name",
    "Perpetual": "automatic every initial_when",
    "Retry": "attempt attempts delay",
    "Strike": "call_repr direction function labels operator parameter value",
    "StrikeList": "instructions is_loaded name prefix strike_key",
    "Worker": "concurrency dependencies docket fallback_task name",
}

# Who catches the built-in catches ours.
ERRORS: dict[str, type[BaseException]] = {
    "CycleError": ValueError,
    "DependencyFailed": RuntimeError,
    "DependencyNotGiven": TypeError,
    "EndlessWork": RuntimeError,
    "ExecutionCancelled": DocketError,
    "ExecutionSuperseded": DocketError,
    "InDoubt": ConnectionError,
    "InvalidArguments": TypeError,
    "InvalidOption": ValueError,
    "InvalidSchedule": ValueError,
    "InvalidURL": ValueError,
    "LayoutMismatch": RuntimeError,
    "ServerTooOld": RuntimeError,
    "LoadError": ImportError,
    "NameTaken": ValueError,
    "NoDocket": RuntimeError,
    "NotEntered": RuntimeError,
    "NotSerializable": TypeError,
    "RedisUnavailable": ConnectionError,
    "ResultTimeout": TimeoutError,
    "ResultUnavailable": LookupError,
    "UnknownTask": KeyError,
    "WouldBlock": RuntimeError,
    "WrongState": RuntimeError,
}


ALSO_FOR_BLOCKING_CODE = {
    *("add", "add_many", "cancel", "clear", "counts", "dead_letters", "events", "executions", "get_execution", "get_result", "is_superseded", "promote"),
    *("replace", "replace_many", "reschedule", "restore", "retry", "retry_dead_letters", "schedule", "snapshot", "strike", "subscribe"),
    *("task_workers", "workers"),
}


def spelled(function: Callable[..., Any]) -> list[str]:
    """This spells the parameters of a function, without `self` and annotations."""
    words: list[str] = []
    before: Any = None
    for parameter in inspect.signature(function).parameters.values():
        if parameter.name in ("self", "cls"):
            continue
        if before is parameter.POSITIONAL_ONLY and parameter.kind is not before:
            words.append("/")
        if parameter.kind is parameter.KEYWORD_ONLY and before not in (parameter.KEYWORD_ONLY, parameter.VAR_POSITIONAL):
            words.append("*")
        star = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        words.append(star + parameter.name + ("" if parameter.default is parameter.empty else f"={_shown(parameter.default)}"))
        before = parameter.kind
    return [*words, "/"] if before is inspect.Parameter.POSITIONAL_ONLY else words


def _shown(default: object) -> str:
    return str(default) if isinstance(default, timedelta) else repr(default)


def test_the_package_has_these_names():
    names = docket.__all__

    assert set(NAMES) <= set(names)
    assert names == sorted(set(names))


@pytest.mark.parametrize("name", CALLS)
def test_it_may_be_called_like_this(name: str):
    function, promised = CALLS[name]
    wanted = promised.split(", ") if promised else []

    found = spelled(function)

    assert found[: len(wanted)] == wanted
    assert all("=" in more or more.startswith("*") for more in found[len(wanted) :])


@pytest.mark.parametrize("name", sorted(ALSO_FOR_BLOCKING_CODE))
def test_the_client_for_blocking_code_is_called_as_the_docket_is(name: str):
    """Except that nothing is awaited, so there is no event to set when one is ready."""
    owner, twin = (Docket, SyncClient) if hasattr(Docket, name) else (Execution[Any], SyncExecution[Any])
    wanted = [word for word in spelled(getattr(owner, name)) if word != "ready=None"]

    assert spelled(getattr(twin, name)) == ([] if wanted == ["*"] else wanted)


def test_the_module_of_dockets_has_these_names():
    names = {"CLEAR_BATCH", "Docket", "DocketSnapshot", "RunningExecution", "TaskCollection", "WorkerInfo"}
    names |= {"RedisMessage", "RedisMessageID", "RedisMessages", "RedisReadGroupResponse", "RedisStreamPendingMessage"}

    assert names <= set(docket.docket.__all__)
    assert all(hasattr(docket.docket, name) for name in names)


def test_the_integrations_have_these_names():
    assert set(for_fastapi.__all__) >= {"AfterResponse", "Background", "DocketDep", "lifespan"}
    assert set(for_django.__all__) >= {"DatabaseConnections", "dependencies", "docket", "get_docket", "schedule_on_commit"}
    assert set(for_sentry.__all__) >= {"DocketIntegration"}


def test_these_are_to_be_awaited():
    awaited = {
        *("Docket.add_many", "Docket.replace_many", "Docket.schedule", "Docket.cancel", "Docket.get_execution"),
        *("Docket.counts", "Docket.snapshot", "Docket.workers", "Docket.task_workers", "Docket.clear", "Executions.page"),
        *("Handle.schedule", "Handle.replace", "Handle.cancel", "Options.schedule", "Options.replace"),
        *("Execution.get_result", "Execution.sync", "Execution.schedule", "Execution.is_superseded"),
        *("Execution.reschedule", "Execution.promote", "Execution.retry", "Execution.cancel"),
        *("ExecutionProgress.create", "ExecutionProgress.sync"),
        *("Docket.strike", "Docket.restore", "Docket.wait_for_strikes_loaded"),
        *("StrikeList.strike", "StrikeList.restore", "StrikeList.send_instruction", "StrikeList.wait_for_strikes_loaded"),
        *("Worker.run_forever", "Worker.run_until_finished", "Worker.run_at_most", "Worker.run", "trace", "fail", "sleep"),
        *("assert_task_scheduled", "assert_task_not_scheduled", "assert_task_count", "assert_no_tasks", "run_task", "drain"),
    }

    assert {name for name, (function, _) in CALLS.items() if inspect.iscoroutinefunction(function)} == awaited


def test_these_can_be_asked_for():
    async def job() -> None: ...

    home = docket.Docket(url="memory://")
    subject = Execution[Any](home, job, (), {}, "k", None, 1)
    found: dict[str, Any] = {
        "Docket": home,
        "Execution": subject,
        "ExecutionProgress": subject.progress,
        "Handle": home.task(job),
        "Perpetual": dependencies.Perpetual(),
        "Retry": dependencies.Retry(),
        "Strike": Strike("job"),
        "StrikeList": home.strike_list,
        "Worker": Worker(home),
    }

    for name, attributes in ATTRIBUTES.items():
        missing = [attribute for attribute in attributes.split() if not hasattr(found[name], attribute)]
        assert not missing, f"{name} lacks {missing}"


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_one_of_ours_and_one_of_pythons(name: str):
    error = getattr(docket.errors, name)

    assert issubclass(error, (DocketError,))
    assert issubclass(error, ERRORS[name])


def test_states_and_dispositions_have_these_values():
    assert {state.name: state.value for state in execution.ExecutionState} == {
        "SCHEDULED": "scheduled",
        "QUEUED": "queued",
        "RUNNING": "running",
        "COMPLETED": "completed",
        "FAILED": "failed",
        "CANCELLED": "cancelled",
    }
    assert {disposition.name: disposition.value for disposition in execution.Disposition} == {
        "LOADED": "loaded",
        "SCHEDULED": "scheduled",
        "ALREADY_SCHEDULED": "already_scheduled",
        "STRUCK": "struck",
        "SUPERSEDED": "superseded",
        "FAILED": "failed",
    }


def test_operators_have_these_values():
    assert [operator.value for operator in Operator] == ["==", "!=", ">", ">=", "<", "<=", "between"]
    assert all(isinstance(operator, str) for operator in Operator)
    assert (Strike.direction, Restore.direction) == ("strike", "restore")
    assert issubclass(Strike, StrikeInstruction) and issubclass(Restore, StrikeInstruction)


def test_events_have_these_fields():
    assert list(execution.StateEvent.__annotations__) == ["type", "key", "state", "when", "worker", "started_at", "completed_at", "error"]
    assert list(execution.ProgressEvent.__annotations__) == ["type", "key", "current", "total", "message", "updated_at"]
    assert list(execution.InterruptionEvent.__annotations__) == ["type", "reason", "missed"]
