"""The pytest plugin, in runs of pytest of its own: whichever plugin runs the async tests, and whatever the application's docket is."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

pytest_plugins = "pytester"

TESTS = """
import asyncio
import pytest
from datetime import timedelta

from docket.testing import assert_no_tasks, assert_task_count, assert_task_scheduled

MARK = {mark}

ran = []


@pytest.fixture
def note():
    return ran.append


{fixture}
async def seeded(docket):
    @docket.task
    async def remind(order):
        ran.append(order)
        return order

    await remind.schedule(1)
    yield remind
    assert docket.is_entered
    ran.append("closed")


@MARK
async def test_a_fixture_of_ones_own_uses_the_docket(docket, seeded, worker, drain):
    assert docket.is_entered and docket.url.startswith("memory://")
    assert asyncio.get_running_loop() is not None
    await assert_task_scheduled(docket, seeded, args=(1,))
    assert [run.result for run in await drain()] == [1]
    await assert_no_tasks(docket)
    assert worker.docket is docket


@MARK
async def test_every_test_has_a_docket_of_its_own(docket):
    assert "remind" not in docket.tasks
    assert ran == [1, "closed"]
    await assert_no_tasks(docket)


@MARK
async def test_days_pass(docket, docket_clock, drain):
    before = docket_clock.now()

    @docket.task
    async def remind():
        return docket_clock.now()

    await remind.schedule(when=timedelta(days=2))
    assert await drain() == []
    (run,) = await drain(days=3)
    assert run.result - before >= timedelta(days=2)
    docket_clock.advance(days=1)
    assert docket_clock.now() - before >= timedelta(days=4)


@MARK
async def test_the_worker_may_be_run_by_hand(docket, worker):
    @docket.task
    async def remind():
        return "reminded"

    execution = await remind.schedule()
    await worker.run_until_finished()
    assert await execution.get_result() == "reminded"


@MARK
async def test_a_worker_alone():
    pass


class TestInAClass:
    @MARK
    async def test_a_method(self, docket, drain):
        await docket.add("trace")("hello")
        assert [run.task for run in await drain()] == ["trace"]


def test_that_is_not_async(docket, worker, drain, docket_clock):
    assert not docket.is_entered

    async def run():
        async with docket, worker:
            await docket.add("trace")("hello")
            return await drain(days=1)

    assert [run.task for run in asyncio.run(run())] == ["trace"]
"""

QUIET = ("-p", "no:xdist", "-p", "no:randomly", "-p", "no:valkey", "-p", "no:cacheprovider", "-W", "error")


def settings(pytester: pytest.Pytester, *lines: str) -> None:
    pytester.makeini("\n".join(["[pytest]", "asyncio_default_fixture_loop_scope = function", *lines]))  # which pytest-asyncio wants to be told


def run(pytester: pytest.Pytester, *arguments: str, passed: int, failed: int = 0, errors: int = 0) -> pytest.RunResult:
    result = pytester.runpytest_subprocess(*QUIET, *arguments)
    result.assert_outcomes(passed=passed, failed=failed, errors=errors)
    return result


def test_pytest_finds_it():
    (found,) = entry_points(group="pytest11", name="docket")

    assert found.value == "docket.testing.plugin"


@pytest.mark.parametrize(
    ("ini", "mark", "fixture"),
    [
        ("anyio_mode = strict", "pytest.mark.anyio", "@pytest.fixture"),
        ("anyio_mode = auto", "lambda test: test", "@pytest.fixture"),
        ("asyncio_mode = strict", "pytest.mark.asyncio", "import pytest_asyncio\n\n@pytest_asyncio.fixture"),
        ("asyncio_mode = auto", "lambda test: test", "@pytest.fixture"),
    ],
    ids=["anyio", "anyio auto", "asyncio strict", "asyncio auto"],
)
def test_it_works_whoever_runs_the_tests(pytester: pytest.Pytester, ini: str, mark: str, fixture: str):
    settings(pytester, ini)
    pytester.makepyfile(TESTS.replace("{mark}", mark).replace("{fixture}", fixture))

    run(pytester, passed=7)


def test_it_works_in_event_loops_of_every_scope_and_beside_anyio(pytester: pytest.Pytester):
    settings(pytester, "asyncio_default_test_loop_scope = session")
    pytester.makepyfile("""
        import pytest


        async def check(docket, drain):
            await docket.add("trace")("hello")
            assert [run.task for run in await drain()] == ["trace"]


        @pytest.mark.asyncio(loop_scope="function")
        async def test_function(docket, drain):
            await check(docket, drain)


        @pytest.mark.asyncio(loop_scope="module")
        async def test_module(docket, drain):
            await check(docket, drain)


        @pytest.mark.asyncio(loop_scope="package")
        async def test_package(docket, drain):
            await check(docket, drain)


        @pytest.mark.asyncio
        async def test_as_configured(docket, drain):
            await check(docket, drain)


        @pytest.mark.anyio
        async def test_anyio(docket, drain):
            await check(docket, drain)


        class TestClass:
            @pytest.mark.asyncio(loop_scope="class")
            async def test_class(self, docket, drain):
                await check(docket, drain)
    """)

    run(pytester, passed=6)


APP = """
from docket import Docket, Cron, Depends

class Storage:
    async def put(self, *args, **kwargs): raise AssertionError("put")
    async def get(self, *args, **kwargs): raise AssertionError("get")

docket = Docket("orders", "redis://nowhere:1/0", result_storage=Storage())

@docket.task
async def place(order):
    await charge.schedule(order)
    return order

@docket.task
async def charge(order):
    await docket.add("refund", key="refund")(order)

@docket.task
@Cron("@daily")
async def report(): ...

async def refund(order):
    return f"refunded {order}"

others = [refund]
"""

OF_APP = """
import pytest
import app
from docket.testing import assert_task_scheduled, run_task


def test_before():
    assert (app.docket.url, app.docket.is_entered) == ("redis://nowhere:1/0", False)


@pytest.mark.anyio
async def test_it_stands_in_memory(docket, drain, docket_clock):
    assert docket is app.docket
    await app.place.schedule(12)
    runs = await drain()
    assert [run.task for run in runs] == ["place", "charge", "refund"]
    assert [run.task for run in await drain(days=2)] == ["report", "report"]
    assert docket.clock is docket_clock


@pytest.mark.anyio
async def test_a_run_of_one_task_is_nobody_elses_business(docket, drain):
    run = await run_task(app.place, 12)
    assert [each.function_name for each in run.scheduled] == ["charge"]
    assert await drain() == []


@pytest.mark.anyio
async def test_it_may_be_entered_once_more(docket):
    async with app.docket:
        await app.place.schedule(1)
    await assert_task_scheduled(docket, "place")


def test_afterwards():
    assert (app.docket.url, app.docket.is_entered) == ("redis://nowhere:1/0", False)
    assert isinstance(app.docket.result_storage, app.Storage)
    assert not app.docket.clock.jumps
"""


def test_the_docket_may_be_the_applications_own(pytester: pytest.Pytester):
    settings(pytester, "pythonpath = .", "docket_tasks = app:docket app:others")
    pytester.makepyfile(app=APP, test_app=OF_APP)

    run(pytester, passed=5)


def test_or_be_given_by_a_fixture(pytester: pytest.Pytester):
    settings(pytester, "pythonpath = .")
    pytester.makepyfile(app=APP, test_app=OF_APP)
    pytester.makeconftest("""
        import pytest
        import app


        @pytest.fixture
        def docket_tasks():
            app.docket.register(app.refund)
            return app.docket
    """)

    run(pytester, passed=5)


def test_tasks_and_clock_may_be_given_by_fixtures(pytester: pytest.Pytester):
    settings(pytester, "pythonpath = .", "anyio_mode = auto")
    pytester.makepyfile(
        app="""
            async def place(order):
                return order

            async def charge(order):
                return -order

            tasks = [charge]
        """,
        test_app="""
            import pytest
            import app
            from datetime import datetime, timezone
            from docket.testing import MovableClock

            NEW_YEAR = datetime(2031, 1, 1, tzinfo=timezone.utc)


            @pytest.fixture
            def docket_tasks():
                return [app.place, "app:tasks"]


            @pytest.fixture
            def docket_clock():
                return MovableClock(NEW_YEAR, ticking=False)


            async def test_both(docket, drain):
                await docket.add("place")(1)
                await docket.add("charge")(2)
                runs = await drain()
                assert [run.result for run in runs] == [1, -2]
                assert {run.started_at for run in runs} == {NEW_YEAR}


            class TestOne:
                @pytest.fixture
                def docket_tasks(self):
                    return "app:tasks"

                async def test_one(self, docket):
                    assert "charge" in docket.tasks and "place" not in docket.tasks
        """,
    )

    run(pytester, passed=2)


def test_a_docket_of_the_users_own_comes_first(pytester: pytest.Pytester):
    settings(pytester, "anyio_mode = auto")
    pytester.makepyfile("""
        import pytest
        from docket import Docket


        @pytest.fixture
        def docket():
            return Docket("own", "memory://own")


        async def test_it_is_not_entered(docket, drain):
            assert docket.name == "own"
            await docket.add("trace")("hello")
            assert [run.task for run in await drain()] == ["trace"]


        class TestEntered:
            @pytest.fixture
            async def docket(self):
                async with Docket("entered", "memory://entered") as docket:
                    yield docket

            async def test_it_is_entered(self, docket, drain):
                assert docket.name == "entered"
                await docket.add("trace")("hello")
                assert [run.task for run in await drain()] == ["trace"]
    """)

    run(pytester, passed=2)


def test_what_is_wrong_is_said(pytester: pytest.Pytester):
    settings(pytester, "pythonpath = .", "docket_tasks = app:nothing")
    pytester.makepyfile(
        app=APP,
        test_app="""
            import pytest
            import app


            async def test_nobody_runs_it(docket): ...


            @pytest.mark.anyio
            async def test_nothing_there(docket): ...


            @pytest.mark.anyio
            class TestEnteredBefore:
                @pytest.fixture
                async def before(self):
                    app.docket.reconfigure(url="memory://before", result_storage=None)
                    async with app.docket:
                        yield

                @pytest.fixture
                def docket_tasks(self, before):
                    return app.docket

                async def test_entered_before(self, docket): ...


            @pytest.mark.anyio
            class TestTrio:
                @pytest.fixture
                def anyio_backend(self):
                    return "trio", {}

                @pytest.fixture
                def docket_tasks(self):
                    return []

                async def test_trio(self, docket): ...
        """,
    )

    result = run(pytester, passed=0, errors=4)

    result.stdout.fnmatch_lines_random([
        "*test_nobody_runs_it is async, and no plugin runs it: mark it with @pytest.mark.anyio or @pytest.mark.asyncio, or set anyio_mode = 'auto'",
        "*docket.errors.LoadError: Cannot load 'app:nothing': *",
        "*docket.errors.NotEntered: docket 'orders' is entered already, so it cannot be put into memory for this test; *",
        "*docket runs on asyncio: have a fixture named anyio_backend that returns 'asyncio'",
    ])  # fmt: skip


def test_who_does_not_use_it_does_not_pay_for_it(pytester: pytest.Pytester):
    pytester.makepyfile("""
        import sys


        def test_what_is_imported():
            ours = sorted(name for name in sys.modules if name.partition(".")[0] == "docket")
            assert ours == ["docket", "docket.testing", "docket.testing.plugin"]
            assert not {"redis", "opentelemetry", "structlog", "burner_redis"} & set(sys.modules)
    """)

    run(pytester, "-p", "no:asyncio", passed=1)


def test_the_fixtures_are_listed_with_what_they_are(pytester: pytest.Pytester):
    settings(pytester)

    result = pytester.runpytest_subprocess(*QUIET, "--fixtures", "-q")

    result.stdout.fnmatch_lines_random(["docket_clock -- *", "docket_tasks -- *", "docket -- *", "worker -- *", "drain -- *"])
    result.stdout.no_fnmatch_line("*_docket_in_memory*")
