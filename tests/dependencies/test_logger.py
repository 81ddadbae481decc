from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any, cast

import pytest
import structlog

from docket._logging import format_duration
from docket.dependencies import Depends, TaskLogger
from tests.dependencies._runs import run


async def one_record(caplog: pytest.LogCaptureFixture, say: Callable[[TaskLogger], object]) -> Any:
    async def send_mail(logger: TaskLogger = Depends(TaskLogger)):
        say(logger)

    caplog.clear()
    with caplog.at_level(logging.INFO):
        await run(send_mail, attempt=2)
    (record,) = caplog.records
    return record


async def test_a_line_goes_through_the_standard_logger_and_tells_the_run(caplog: pytest.LogCaptureFixture):
    record = await one_record(caplog, lambda logger: logger.info("Hello"))

    assert (record.name, record.levelname, record.getMessage()) == ("docket.task.send_mail", "INFO", "Hello")
    fields = cast("dict[str, Any]", vars(record))
    told = {name: value for name, value in fields.items() if name.startswith("docket.")}
    assert told == {"docket.name": "orders", "docket.worker": "worker-1", "docket.task": "send_mail", "docket.key": "key-1", "docket.attempt": 2}


async def test_a_task_may_write_more_than_one_line(caplog: pytest.LogCaptureFixture):
    async def send_mail(logger: TaskLogger = Depends(TaskLogger)):
        logger.info("Hello")
        logger.info("Bye", name="Jane")

    with caplog.at_level(logging.INFO):
        await run(send_mail)

    assert [record.getMessage() for record in caplog.records] == ["Hello", "Bye name='Jane'"]


async def test_fields_are_shown_and_kept(caplog: pytest.LogCaptureFixture):
    record = await one_record(caplog, lambda logger: logger.warning("Service status", service_id="main", tries=1, event="x"))

    assert record.getMessage() == "Service status service_id='main' tries=1 event='x'"
    assert (record.service_id, record.tries, record.event) == ("main", 1, "x")


async def test_the_standard_librarys_forms_work(caplog: pytest.LogCaptureFixture):
    record = await one_record(caplog, lambda logger: logger.info("x %s", 1, extra={"field": 2}))

    assert (record.getMessage(), record.field, record.args) == ("x 1", 2, (1,))
    assert vars(record)["docket.key"] == "key-1"


async def test_fields_and_arguments_do_not_get_in_each_others_way(caplog: pytest.LogCaptureFixture):
    record = await one_record(caplog, lambda logger: logger.info("x %s", 1, share="50%s"))

    assert record.getMessage() == "x 1 share='50%s'"


async def test_a_field_may_have_a_name_that_logging_keeps_for_itself(caplog: pytest.LogCaptureFixture):
    record = await one_record(caplog, lambda logger: logger.info("Hello", name="Jane", args=1))

    assert record.getMessage() == "Hello name='Jane' args=1"
    assert (record.name_, record.args_) == ("Jane", 1)


async def test_a_line_is_told_to_come_from_where_it_was_written(caplog: pytest.LogCaptureFixture):
    def say(logger: TaskLogger) -> None:
        logger.info("Hello")

    def say_by_level(logger: TaskLogger) -> None:
        logger.log(logging.INFO, "Hello")

    assert (await one_record(caplog, say)).funcName == "say"
    assert (await one_record(caplog, say_by_level)).funcName == "say_by_level"


async def test_an_exception_is_told_with_its_traceback(caplog: pytest.LogCaptureFixture):
    def say(logger: TaskLogger) -> None:
        try:
            raise OSError("broken")
        except OSError:
            logger.exception("Failed", order=1)

    record = await one_record(caplog, say)

    assert record.exc_info[0] is OSError and record.getMessage() == "Failed order=1"


async def test_bound_fields_and_those_of_structlogs_context_are_told_too(caplog: pytest.LogCaptureFixture):
    with structlog.contextvars.bound_contextvars(request="r-1"):
        record = await one_record(caplog, lambda logger: logger.bind(order=1).info("Hello", size=2))

    assert record.getMessage() == "Hello order=1 size=2 request='r-1'"


async def test_a_level_that_is_off_costs_nothing(caplog: pytest.LogCaptureFixture):
    class Costly:
        def __repr__(self) -> str:
            raise AssertionError("rendered")

    record = await one_record(caplog, lambda logger: (logger.debug("off", costly=Costly()), logger.info("on")))

    assert record.getMessage() == "on"


@pytest.mark.parametrize(("seconds", "shown"), [(0.0124, "    12ms"), (99.9, " 99900ms"), (100, "   100s ")])
def test_durations_are_told_in_a_column(seconds: float, shown: str):
    assert format_duration(seconds) == shown
