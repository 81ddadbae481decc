"""Tests of tasks, with the fixtures that docket brings: no server, no waiting, and the real worker. The tasks are at the top, where yours would be imported.

Look at the last test: three days pass in milliseconds.

pytest examples/test_signup.py
python examples/test_signup.py      # the same
"""

import subprocess
import sys
from datetime import timedelta

import pytest

from docket import Cron, Depends, Docket, Retry, TaskLogger
from docket.testing import Drain, LogLine, assert_no_tasks, assert_task_count, assert_task_scheduled, run_task

# The application

application = Docket(name="signup", url="redis://redis.internal/0")  # which no test will ever see


async def connect() -> "Mailer":
    raise ConnectionError("the real one is a network away")


class Mailer:
    def __init__(self) -> None:
        self.sent: list[str] = []

    async def send(self, address: str) -> None:
        self.sent.append(address)


@application.task
async def welcome(
    address: str,
    mailer: Mailer = Depends(connect),
    retry: Retry = Retry(attempts=3, delay=timedelta(seconds=30)),
    logger: TaskLogger = Depends(TaskLogger),
) -> str:
    await mailer.send(address)
    logger.info("welcomed", attempt=retry.attempt)
    await ask_how_it_is.schedule(address, key=f"ask-{address}", when=timedelta(days=3))
    return f"welcome, {address}"


@application.task
async def ask_how_it_is(address: str, mailer: Mailer = Depends(connect)) -> None:
    await mailer.send(f"how is it, {address}?")


@application.task
@Cron("0 3 * * *")
async def clean_up() -> None: ...


async def sign_up(address: str) -> None:
    await welcome.schedule(address, key=f"welcome-{address}")


# Its tests

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def docket_tasks() -> Docket:
    return application  # stands in memory for the length of each test


@pytest.fixture
def mailer() -> Mailer:
    return Mailer()


async def test_a_run_welcomes(mailer: Mailer) -> None:
    run = await run_task(welcome, "ada@example.org", overrides={connect: lambda: mailer})

    assert run.result == "welcome, ada@example.org"
    assert mailer.sent == ["ada@example.org"]
    assert LogLine("INFO", "welcomed", {"attempt": 1}) in run.logs
    assert [(later.function_name, later.key) for later in run.scheduled] == [("ask_how_it_is", "ask-ada@example.org")]


async def test_a_failure_is_tried_again_half_a_minute_later() -> None:
    run = await run_task(welcome, "ada@example.org", raises=False)  # the real mailer is not there

    assert run.retry_at == run.started_at + timedelta(seconds=30)


async def test_signing_up_twice_welcomes_once(docket: Docket) -> None:
    await assert_no_tasks(docket)

    await sign_up("ada@example.org")
    await sign_up("ada@example.org")

    await assert_task_scheduled(docket, welcome, args=("ada@example.org",))
    await assert_task_count(docket, welcome, count=1)


async def test_three_days_after_signing_up(docket: Docket, drain: Drain, mailer: Mailer) -> None:
    await sign_up("ada@example.org")

    with docket.override(connect, lambda: mailer):
        runs = await drain(days=3, seconds=1)

    assert mailer.sent == ["ada@example.org", "how is it, ada@example.org?"]
    assert [run.task for run in runs].count("clean_up") == 3


if __name__ == "__main__":
    sys.exit(subprocess.run([sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", __file__], check=False).returncode)  # noqa: S603 - our own words
