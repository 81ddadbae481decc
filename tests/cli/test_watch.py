"""`docket watch`, the real command: on a pipe, in a terminal, for scripts. What it learns and how: `test_following.py`."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from io import StringIO
from typing import Any

import pytest
from rich.console import Console

from docket import Docket, Perpetual, Progress, Retry
from docket._clock import to_us
from docket._store.records import ProgressChange
from docket.cli._following import Run
from docket.cli._watch_lines import Journal, Lines
from docket.cli._watch_screen import Screen
from docket.execution import ExecutionState
from tests._proxy import running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.cli._command import Command, RunningCommand
from tests.cli._stage import HOUR, working
from tests.cli._terminal import CURSOR, Terminal, is_stopped, open_terminal


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def settings(url: str, docket_name: str) -> dict[str, str]:
    return {"DOCKET_URL": url, "DOCKET_NAME": docket_name}


async def writes(running: RunningCommand, words: str) -> None:
    await eventually(lambda: words in running.text() or running.process.poll() is not None)
    assert words in running.text()


async def ended(running: RunningCommand) -> int:
    await eventually(lambda: running.process.poll() is not None)
    return running.process.returncode


def without_times(text: str) -> list[str]:
    return [line[len("2026-01-01 00:00:00  ") :] for line in text.splitlines()]


class TestOnAPipe:
    async def test_every_stage_is_a_plain_line(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        async def work() -> None: ...

        await docket.add(work, key="k")()
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                assert await ended(watching) == 0

        *lines, last = without_times(watching.text())
        assert lines == ["work{k}: queued", "running on Jim"]
        assert last.startswith("completed after 0")
        assert "\x1b" not in watching.text()

    async def test_a_failure_exits_1_and_tells_the_error(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        async def fails(retry: Retry = Retry(attempts=2)) -> None:
            raise ValueError("Ouch!\x1b[31m")

        await docket.add(fails, key="k")()
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                assert await ended(watching) == 1

        lines = without_times(watching.text())
        assert lines[2].startswith("attempt 1 failed: ")
        assert lines[2].endswith(r"Ouch!\x1b[31m; attempt 2 is queued")
        assert lines[3] == "running on Jim, attempt 2"
        assert lines[4].startswith("failed after ")
        assert lines[4].endswith(r"Ouch!\x1b[31m")

    async def test_a_cancelled_task_exits_3(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "trace{k}: scheduled, due in ")
            await docket.cancel("k")
            assert await ended(watching) == 3

        assert without_times(watching.text())[-1] == "cancelled"

    async def test_a_task_is_watched_through_its_replacement(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "scheduled")
            await docket.replace("sleep", HOUR, "k")(1)
            await writes(watching, "replaced by another run of the same key, which is followed from here on")
            await writes(watching, "sleep{k}: scheduled, due in ")
            await docket.cancel("k")
            assert await ended(watching) == 3

    async def test_of_a_perpetual_task_one_run_is_watched(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        async def beat(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...

        await docket.add(beat, key="k")()
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                assert await ended(watching) == 0
        await docket.cancel("k")

        assert without_times(watching.text())[-1].startswith("the next run is scheduled, due in ")

    async def test_it_can_go_on_with_the_next_run(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        async def beat(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...

        await docket.add(beat, key="k")()
        with docket_command.start("watch", "k", "--follow", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                await writes(watching, "beat{k}: scheduled, due in ")
                await docket.cancel("k")
                assert await ended(watching) == 3

    async def test_an_outage_is_waited_out_and_told_once(self, docket: Docket, docket_command: Command, redis_server: RedisServer, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        async with running_proxy(redis_server.port) as proxy:
            with docket_command.start("watch", "k", "--url", proxy.url, env=settings) as watching:
                await writes(watching, "scheduled")
                proxy.refuse = True
                proxy.cut()
                await writes(watching, "Redis is away; waiting for it")
                await docket.cancel("k")
                tries = proxy.accepted
                await eventually(lambda: proxy.accepted > tries + 1)
                proxy.refuse = False

                assert await ended(watching) == 3

        assert without_times(watching.text())[1:] == ["Redis is away; waiting for it", "Redis is back", "cancelled"]

    async def test_progress_is_told(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        go_on = asyncio.Event()

        async def reports(progress: Progress = Progress()) -> None:
            await progress.set_total(4)
            await progress.set_message("Counting\nsheep")
            await progress.increment()
            await go_on.wait()
            await progress.increment(3)

        await docket.add(reports, key="k")()
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                await writes(watching, r"1/4 (25%) Counting\nsheep")
                go_on.set()
                assert await ended(watching) == 0

        assert without_times(watching.text())[-2] == r"4/4 (100%) Counting\nsheep"

    def test_no_such_task_is_told_and_exits_1(self, docket_command: Command, settings: dict[str, str], docket_name: str):
        watched = docket_command("watch", "k", env=settings)

        assert watched.returncode == 1
        assert watched.stdout == ""
        assert watched.stderr.startswith(f"Error: There is no task 'k' on the docket {docket_name!r}")
        assert watched.stderr.count("\n") == 1

    async def test_a_task_that_is_yet_to_come_can_be_waited_for(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        with docket_command.start("watch", "k", "--wait", env=settings) as watching:
            await writes(watching, "no such task yet; waiting for it to be added")
            await docket.add("trace", key="k", when=HOUR)("never")
            await writes(watching, "scheduled")
            await docket.cancel("k")
            assert await ended(watching) == 3

    async def test_a_record_that_is_gone_is_told_and_exits_1(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "scheduled")
            async with docket.redis() as redis:
                await redis.execute_command("DEL", docket.store.keys.run("k"), docket.store.keys.of("k").queue)
            assert await ended(watching) == 1

        assert "Error: The record of 'k' is gone" in watching.text()

    async def test_watching_can_have_an_end_of_its_own(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")

        watched = await asyncio.to_thread(docket_command, "watch", "k", "--timeout", "10ms", env=settings)

        assert watched.returncode == 4
        assert watched.stderr == "Watched k for 10ms without seeing its end (--timeout); the task is left alone.\n"
        await docket.cancel("k")

    @pytest.mark.parametrize(("with_signal", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    async def test_an_interrupt_ends_it_quietly_and_leaves_the_task_alone(
        self, with_signal: signal.Signals, status: int, docket: Docket, docket_command: Command, settings: dict[str, str]
    ):
        await docket.add("trace", key="k", when=HOUR)("never")
        with docket_command.start("watch", "k", env=settings) as watching:
            await writes(watching, "scheduled")
            said = watching.text()
            watching.process.send_signal(with_signal)
            assert await ended(watching) == status

        assert watching.text() == said
        execution = await docket.get_execution("k")
        assert execution is not None and execution.state is ExecutionState.SCHEDULED
        await docket.cancel("k")


class TestForScripts:
    async def test_every_event_is_a_line_of_json(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        go_on = asyncio.Event()

        async def reports(progress: Progress = Progress()) -> None:
            await progress.increment()
            await go_on.wait()
            raise ValueError("Ouch!")

        await docket.add(reports, key="k")()
        with docket_command.start("watch", "k", "--json", env=settings) as watching:
            await writes(watching, "queued")
            async with working(docket):
                await writes(watching, "progress")
                go_on.set()
                assert await ended(watching) == 1

        queued, running, progress, failed = (json.loads(line) for line in watching.text().splitlines())
        assert (queued["type"], queued["key"], queued["state"], queued["task"], queued["attempt"]) == ("state", "k", "queued", "reports", 1)
        assert (running["state"], running["worker"]) == ("running", "Jim")
        assert running["started_at"] == failed["started_at"]
        assert (progress["type"], progress["current"], progress["total"], progress["message"]) == ("progress", 1, 100, None)
        assert (failed["state"], failed["generation"]) == ("failed", queued["generation"])
        assert "Ouch!" in failed["error"]
        shape = {"type", "key", "state", "when", "worker", "started_at", "completed_at", "error", "task", "attempt", "generation"}
        assert queued.keys() == running.keys() == failed.keys() == shape


class TestInATerminal:
    @pytest.fixture
    def watching(self, docket_command: Command, settings: dict[str, str]) -> Iterator[Terminal]:
        with open_terminal(docket_command, "watch", "k", "--wait", env=settings) as terminal:
            yield terminal

    async def test_a_bar_tells_how_far_it_is_and_goes_when_the_task_ends(self, docket: Docket, watching: Terminal):
        go_on = asyncio.Event()

        async def reports(progress: Progress = Progress()) -> None:
            await progress.set_total(4)
            await progress.set_message("[bold]Counting")
            await progress.increment()
            await go_on.wait()

        await watching.wait_for("waiting for it to be added, for ")
        await docket.add(reports, key="k")()
        await watching.wait_for("queued for ", "no worker has taken it yet")
        async with working(docket):
            await watching.wait_for("running for ", " on Jim", "━━━", "1/4 (25%) [bold]Counting")
            go_on.set()
            assert await watching.end() == 0

        assert "━" not in watching.text
        assert "running for" not in watching.text
        assert "reports{k}: queued" in watching.text
        assert "completed after" in watching.text.splitlines()[-1]
        assert "\x1b[32m" in watching.written  # green
        assert watching.written.count(CURSOR[0]) == watching.written.count(CURSOR[1]) == 1

    async def test_a_due_time_counts_down(self, docket: Docket, watching: Terminal):
        await docket.add("trace", key="k", when=HOUR)("never")
        await watching.wait_for("59m 5")
        await docket.replace("trace", HOUR * 3, "k")("never")
        await watching.wait_for("replaced by another run", "2h 59m")
        await docket.cancel("k")

        assert await watching.end() == 3

    async def test_what_follows_in_a_chain_is_the_last_line(self, docket: Docket, watching: Terminal):
        async def beat(perpetual: Perpetual = Perpetual(every=HOUR)) -> None: ...

        await docket.add(beat, key="k")()
        await watching.wait_for("queued")
        async with working(docket):
            assert await watching.end() == 0
        await docket.cancel("k")

        assert "the next run is scheduled, due in " in watching.text.splitlines()[-1]

    @pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
    async def test_an_interrupt_leaves_the_terminal_as_it_was(self, how: str, watching: Terminal):
        await watching.wait_for("waiting for it to be added, for ")

        if how == "Ctrl-C":
            watching.type("\x03")
            assert await watching.end() == 130
        else:
            assert await watching.stop(signal.SIGTERM) == 143

        assert len(watching.text.splitlines()) == 1  # neither the live line nor an echo
        assert watching.written.count(CURSOR[0]) == watching.written.count(CURSOR[1]) == 1
        assert "Aborted" not in watching.text
        assert watching.modes() == watching.settings

    async def test_it_can_be_suspended(self, watching: Terminal):
        await watching.wait_for("waiting for it to be added, for ")

        watching.process.send_signal(signal.SIGTSTP)
        await eventually(lambda: is_stopped(watching.process.pid))
        assert len(watching.text.splitlines()) == 1
        assert watching.written.count(CURSOR[0]) == watching.written.count(CURSOR[1]) == 1
        assert watching.modes() == watching.settings

        watching.process.send_signal(signal.SIGCONT)
        await watching.wait_for("waiting for it to be added, for ")
        assert await watching.stop(signal.SIGTERM) == 143

    async def test_an_outage_is_shown_while_it_lasts(self, docket: Docket, docket_command: Command, redis_server: RedisServer, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        async with running_proxy(redis_server.port) as proxy:
            with open_terminal(docket_command, "watch", "k", "--url", proxy.url, env={"DOCKET_NAME": settings["DOCKET_NAME"]}) as watching:
                await watching.wait_for("scheduled, due in")
                proxy.refuse = True
                proxy.cut()
                await watching.wait_for("Redis is away; what the task does meanwhile is shown when it is back")
                proxy.refuse = False
                await watching.wait_for("Redis is back")
                await watching.wait_until_gone("meanwhile")
                await docket.cancel("k")
                assert await watching.end() == 3

    async def test_a_terminal_that_can_do_nothing_gets_plain_lines(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k", when=HOUR)("never")
        with open_terminal(docket_command, "watch", "k", env={**settings, "TERM": "dumb"}) as watching:
            await watching.wait_for("scheduled, due in")
            await docket.cancel("k")
            assert await watching.end() == 3

        assert "\x1b" not in watching.written

    async def test_a_terminal_without_unicode_gets_what_it_can_show(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        with open_terminal(docket_command, "watch", "schön", "--wait", env={**settings, "PYTHONIOENCODING": "ascii"}) as watching:
            await watching.wait_for("waiting")
            await docket.add("trace", key="schön", when=HOUR)("never")
            await watching.wait_for("trace{sch?n}: scheduled")
            await docket.cancel("schön")
            assert await watching.end() == 3


def test_a_docket_in_memory_is_refused(docket_command: Command):
    refused = docket_command("watch", "k", "-u", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: memory://here lives inside one process, and this one is another")


def test_an_empty_key_is_a_wrong_use(docket_command: Command):
    refused = docket_command("watch", "")

    assert refused.returncode == 2
    assert "a key is not empty" in refused.stderr


# How things are put, with a clock that stands still


NOW = 1_790_000_000_000_000


def run(state: str, **rest: Any) -> Run:
    given: dict[str, Any] = {"key": "k", "generation": 1, "function": "work", "attempt": 1, "when_us": NOW, **rest}
    return Run(state=ExecutionState(state), **given)


def progress(current: int | None, total: int = 10, message: str | None = None) -> ProgressChange:
    return ProgressChange("k", 1, current, total, message, NOW)


def said(*stages: tuple[Run, Run | None]) -> list[str]:
    lines: list[str] = []
    audience = Lines(lambda line: lines.append(line.text), lambda: NOW)
    for now, before in stages:
        audience.stands(now, before)
        audience.tick()
    return lines


@pytest.mark.parametrize(
    ("now", "before", "words"),
    [
        (run("scheduled", when_us=NOW + 5_000_000), None, "work{k}: scheduled, due in 5.0s"),
        (run("scheduled", when_us=NOW - 1), None, "work{k}: scheduled, due now"),
        (run("scheduled", attempt=2, when_us=NOW + 5_000_000), None, "work{k}: scheduled, attempt 2, due in 5.0s"),
        (run("queued", function=None), None, "{k}: queued"),
        (run("queued"), run("scheduled"), "queued"),
        (run("queued"), run("running"), "given back, and queued again"),
        (run("scheduled", when_us=NOW + 5_000_000), run("running"), "given back, and scheduled again, due in 5.0s"),
        (run("queued", attempt=2, error="Ouch!"), run("running"), "attempt 1 failed: Ouch!; attempt 2 is queued"),
        (run("scheduled", attempt=2, when_us=NOW + 5_000_000), run("running"), "attempt 1 failed; attempt 2 is scheduled, due in 5.0s"),
        (run("running", worker="Jim", started_us=NOW - 2_000_000), None, "work{k}: running on Jim for 2.0s"),
        (run("running", worker="J\x07m", started_us=NOW, attempt=3), run("queued"), r"running on J\x07m, attempt 3"),
        (run("running"), run("queued"), "running on ?"),
        (run("completed", started_us=NOW - 2_000_000, completed_us=NOW), None, "work{k}: completed after 2.0s"),
        (run("completed"), run("running"), "completed"),
        (run("failed", started_us=NOW, completed_us=NOW, attempt=3, error="Ouch!"), run("running"), "failed after 0s, attempt 3: Ouch!"),
        (run("cancelled", error="struck"), run("queued"), "cancelled: struck"),
    ],
)
def test_the_words_for_a_stage(now: Run, before: Run | None, words: str):
    assert said((now, before)) == [words]


def test_progress_comes_once_a_second_and_the_last_of_it_before_the_end():
    lines: list[str] = []
    time = NOW
    audience = Lines(lambda line: lines.append(line.text), lambda: time)

    def report(current: int) -> None:
        audience.progressed(run("running", worker="Jim", progress=progress(current)))
        audience.tick()

    report(1)
    report(2)
    report(3)
    assert lines == ["1/10 (10%)"]

    time += 1_000_000
    audience.tick()
    assert lines == ["1/10 (10%)", "3/10 (30%)"]

    report(4)
    audience.stands(run("completed"), run("running"))
    assert lines == ["1/10 (10%)", "3/10 (30%)", "4/10 (40%)", "completed"]


def test_a_first_look_tells_progress_too_but_not_of_what_has_ended():
    running, over = run("running", worker="Jim", progress=progress(None, message="Begun")), run("completed", progress=progress(10))

    assert said((running, None)) == ["work{k}: running on Jim", "0/10 (0%) Begun"]
    assert said((over, None)) == ["work{k}: completed"]


def test_waiting_is_told_once():
    lines: list[str] = []
    audience = Lines(lambda line: lines.append(line.text), lambda: NOW)

    audience.waiting()
    audience.waiting()

    assert lines == ["no such task yet; waiting for it to be added"]


def test_a_script_is_told_of_everything_else_as_well():
    events: list[dict[str, Any]] = []
    audience = Journal("k", events.append, lambda: NOW)

    audience.waiting()
    audience.waiting()
    audience.stands(run("running", progress=progress(1)), None)
    audience.tick()
    audience.away()
    audience.back()
    audience.progressed(run("running", progress=progress(2)))
    audience.replaced(run("running"))
    audience.stands(run("completed", generation=2, progress=progress(10)), None)
    audience.goes_on(run("scheduled", generation=3))

    assert [event["type"] for event in events] == ["waiting", "state", "progress", "away", "back", "progress", "replaced", "state"]
    assert all(event["key"] == "k" for event in events)
    assert events[-1]["state"] == "completed"
    assert events[6] == {"type": "replaced", "key": "k", "generation": 1}


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (run("scheduled", when_us=NOW + 60_000_000), "scheduled, due in 1m 00s"),
        (run("queued", when_us=NOW - 60_000_000), "queued for 1m 00s; no worker has taken it yet"),
        (run("running", started_us=NOW - 60_000_000, worker="Jim"), "running for 1m 00s on Jim"),
        (run("running"), "running"),
        (run("completed"), "completed"),
    ],
)
def test_the_words_of_the_live_line(now: Run, words: str):
    console = Console(file=StringIO(), width=80)
    screen = Screen(lambda: NOW, console)
    screen.stands(now, None)
    screen.tick()

    with console.capture() as captured:
        console.print(screen.below())

    assert captured.get().strip().endswith(words)


def test_times_are_those_of_the_wall():
    from datetime import datetime

    lines: list[str] = []
    Lines(lambda line: lines.append(str(line)), lambda: NOW).away()
    moment = datetime.strptime(lines[0][:19], "%Y-%m-%d %H:%M:%S").astimezone()

    assert to_us(moment) == NOW
