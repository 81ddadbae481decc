"""`docket top`, the real command: in a terminal, on a pipe, for scripts. What a frame looks like: `test_top_frame.py`."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from docket import Docket
from docket.cli._top_reading import Collector
from tests._proxy import running_proxy
from tests._servers import RedisServer
from tests._waiting import eventually
from tests.cli._command import DEADLINE, Command, environment
from tests.cli._stage import HOUR, Stage, working
from tests.cli._terminal import ALTERNATE_SCREEN, CURSOR, Terminal, is_stopped, open_terminal

OFTEN = ("--interval", "100ms")


@pytest.fixture
def url(redis_server: RedisServer) -> str:
    return redis_server.url


@pytest.fixture
def settings(redis_server: RedisServer, docket_name: str) -> dict[str, str]:
    return {"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name}


@pytest.fixture
def top(docket_command: Command, settings: dict[str, str]) -> Iterator[Terminal]:
    with open_terminal(docket_command, "top", *OFTEN, env=settings) as terminal:
        yield terminal


def assert_is_as_before(terminal: Terminal) -> None:
    """The terminal is on its usual screen, with its cursor and its modes."""
    for begun, ended in (ALTERNATE_SCREEN, CURSOR):
        assert terminal.written.rfind(ended) > terminal.written.rfind(begun) >= 0
    assert terminal.modes() == terminal.settings


@pytest.mark.usefixtures("redis_server")
class TestInATerminal:
    async def test_it_shows_what_the_docket_is_doing(self, docket: Docket, top: Terminal):
        stage = Stage(docket)
        async with working(docket):
            await stage.fill()
            await top.wait_for("running          1  on 1 of 1 workers", "reports  sheep  Jim", "━━━━━━━━  25% Counting sheep")
            await top.wait_for("fails  broken  ValueError: Ouch!", "next in 59m 5", "Strikes 1 in effect: sleep(seconds > 100)", "runs 1")
            await stage.clear()
            await top.wait_for("nothing runs", "completed", "knows ")
        await top.wait_for("no worker is alive: nothing will run")

        top.type("q")

        assert await top.end() == 0
        assert_is_as_before(top)

    async def test_a_pause_asks_redis_nothing_until_it_is_over(self, docket: Docket, top: Terminal):
        await top.wait_for("scheduled        0")
        top.type("p")
        await top.wait_for("PAUSED", "go on")
        await docket.add("trace", key="k", when=HOUR)("never")
        calls = redis_calls(docket)

        async def is_quiet() -> bool:
            """What the docket itself does as it is entered, and a reading that was under way, are over; one call is the question's own."""
            so_far = await calls()
            await asyncio.sleep(0.25)  # more than two intervals of this screen
            return await calls() - so_far == 1

        await eventually(is_quiet)
        before = await calls()
        top.type("+")  # drawn, and nothing read
        await top.wait_for("every 500ms")

        assert "scheduled        0" in top.text
        assert await calls() - before == 1  # this one

        top.type(" ")
        await top.wait_for("scheduled        1", "PAUSED")
        await docket.cancel("k")
        top.type("P")
        await top.wait_for("scheduled        0")
        await top.wait_until_gone("PAUSED")
        top.type("Q")
        assert await top.end() == 0

    async def test_the_interval_can_be_changed(self, top: Terminal):
        await top.wait_for("every 100ms")
        for key, interval in [
            ("-", "100ms"),
            ("+", "500ms"),
            ("=", "1s"),
            ("+", "2s"),
            ("+", "5s"),
            ("+", "10s"),
            ("+", "30s"),
            ("+", "1m"),
            ("+", "1m"),
            ("_", "30s"),
        ]:
            top.type(key)
            await top.wait_for(f"every {interval} ")

        top.type("q")
        assert await top.end() == 0

    async def test_other_keys_do_nothing(self, top: Terminal):
        await top.wait_for("Last failures")
        top.type("x\x1b[A\x1bOQ\x1bOP\x1b[1;2P\x1bp")  # an arrow, function keys with Q and P in them, Alt-P
        top.type("-")
        seen = len(top.written)
        await top.wait_until(lambda: len(top.written) > seen, "another frame")

        assert "PAUSED" not in top.text
        top.type("q")
        assert await top.end() == 0

    async def test_it_fills_a_window_that_changes_its_size(self, top: Terminal):
        await top.wait_for("look now")
        top.type("p")  # so that nothing but the change draws
        await top.wait_for("PAUSED")
        for columns, lines in [(120, 40), (40, 10), (10, 3), (80, 24)]:
            top.resize(columns, lines)
            await top.wait_until(lambda lines=lines, columns=columns: fits(top, columns, lines), f"a frame of {columns}x{lines}")

        top.type("q")
        assert await top.end() == 0
        assert_is_as_before(top)

    async def test_an_outage_is_shown_while_it_lasts(self, docket: Docket, docket_command: Command, redis_server: RedisServer, settings: dict[str, str]):
        async with running_proxy(redis_server.port) as proxy:
            with open_terminal(docket_command, "top", *OFTEN, "-u", proxy.url, "-d", settings["DOCKET_NAME"]) as top:
                await top.wait_for("scheduled        0")
                proxy.refuse = True
                proxy.cut()
                await top.wait_for("Redis is away for ", "this is what was seen ", "scheduled        0")
                await docket.add("trace", key="k", when=HOUR)("never")
                proxy.refuse = False
                await top.wait_for("scheduled        1")
                await top.wait_until_gone("Redis is away")
                await docket.cancel("k")

                proxy.refuse = True
                proxy.cut()
                await top.wait_for("Redis is away for ")
                top.type("q")  # also while nobody answers
                assert await top.end() == 0
                assert_is_as_before(top)

    @pytest.mark.parametrize("how", ["Ctrl-C", "SIGTERM"])
    async def test_an_interrupt_gives_the_terminal_back(self, how: str, top: Terminal):
        await top.wait_for("look now")

        if how == "Ctrl-C":
            top.type("\x03")
            assert await top.end() == 130
        else:
            assert await top.stop(signal.SIGTERM) == 143

        assert_is_as_before(top)
        assert "Abort" not in top.written and "Traceback" not in top.written

    @pytest.mark.leaves_keys("a key of another kind stands in the stream's place")
    async def test_an_error_gives_the_terminal_back_and_is_told(self, docket: Docket, top: Terminal):
        await top.wait_for("look now")

        async with docket.redis() as redis:
            await redis.execute_command("SET", docket.store.keys.of("k").stream, "no stream")

        assert await top.end() == 1
        assert_is_as_before(top)
        assert "Error: Redis at " in top.written.rpartition(ALTERNATE_SCREEN[1])[2]
        assert "Traceback" not in top.written

    async def test_it_can_be_suspended(self, top: Terminal):
        await top.wait_for("look now")

        top.process.send_signal(signal.SIGTSTP)
        await eventually(lambda: is_stopped(top.process.pid))
        assert_is_as_before(top)

        top.screen.reset()
        top.process.send_signal(signal.SIGCONT)
        await top.wait_for("look now")
        top.type("q")
        assert await top.end() == 0
        assert_is_as_before(top)

    async def test_without_a_keyboard_it_shows_all_the_same(self, docket_command: Command, settings: dict[str, str]):
        with open_terminal(docket_command, "top", *OFTEN, env=settings, stdin=subprocess.DEVNULL) as top:
            await top.wait_for("look now")
            assert await top.stop(signal.SIGINT) == 130
            assert_is_as_before(top)

    async def test_one_frame_stays_on_the_usual_screen(self, docket_command: Command, settings: dict[str, str]):
        with open_terminal(docket_command, "top", "--once", *OFTEN, env=settings) as top:
            assert await top.end() == 0

        assert ALTERNATE_SCREEN[0] not in top.written
        assert "Last failures" in top.text
        assert len(top.text.splitlines()) <= 24

    async def test_a_terminal_without_unicode_gets_what_it_can_show(self, docket_command: Command, settings: dict[str, str]):
        with open_terminal(docket_command, "top", *OFTEN, env={**settings, "PYTHONIOENCODING": "ascii"}) as top:
            await top.wait_for("-" * 80, "_____")
            top.type("q")
            assert await top.end() == 0

    async def test_a_terminal_that_can_do_nothing_gets_one_frame(self, docket_command: Command, settings: dict[str, str]):
        with open_terminal(docket_command, "top", *OFTEN, env={**settings, "TERM": "dumb"}) as top:
            assert await top.end() == 0

        assert "\x1b" not in top.written
        assert "Last failures" in top.text


def fits(top: Terminal, columns: int, lines: int) -> bool:
    display = top.text.splitlines()
    rule = display[1] if len(display) > 1 else ""
    has_foot = lines <= 3 or (len(display) == lines and " q  quit" in display[-1])
    return len(display) <= lines and rule == "─" * columns and has_foot


def redis_calls(docket: Docket):
    async def calls() -> int:
        async with docket.redis() as redis:
            info: bytes = await redis.execute_command("INFO", "stats")
        [line] = [line for line in info.splitlines() if line.startswith(b"total_commands_processed:")]
        return int(line.partition(b":")[2])

    return calls


@pytest.mark.usefixtures("redis_server")
class TestElsewhere:
    async def test_on_a_pipe_there_is_one_plain_frame(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        stage = Stage(docket)
        async with working(docket):
            await stage.fill()
            shown = await docket_command.aside("top", *OFTEN, env={**settings, "COLUMNS": "100"})
            await stage.clear()

        assert shown.returncode == 0
        assert "\x1b" not in shown.stdout
        assert "reports  sheep  Jim" in shown.stdout
        assert "fails  broken  ValueError: Ouch!" in shown.stdout
        assert all(len(line) <= 100 and line == line.rstrip() for line in shown.stdout.splitlines())

    async def test_a_script_is_given_json(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        stage = Stage(docket)
        async with working(docket):
            await stage.fill()
            collector = Collector(docket)

            async def all_of_it() -> bool:
                reading = await collector.look(10)
                return bool(reading.failures and reading.underway and reading.underway[0].progress)

            await eventually(all_of_it)
            shown = await docket_command.aside("top", "--once", "--json", *OFTEN, env=settings)
            await stage.clear()

        look = json.loads(shown.stdout)
        assert (look["docket"], look["running"], look["scheduled"], look["totals"]["failed"]) == (docket.name, 1, 1, 1)
        assert look["per_second"].keys() == {"completed", "failed", "retried", "cancelled"}
        [run] = look["longest_running"]
        assert (run["key"], run["task"], run["progress"]["current"], run["progress"]["message"]) == ("sheep", "reports", 1, "Counting sheep")
        assert look["workers"][0]["name"] == "Jim"
        assert look["last_failures"][0]["error"] == "ValueError: Ouch!"
        assert look["strikes"] == ["sleep(seconds > 100)"]

    async def test_a_script_may_go_on_reading(self, docket: Docket, docket_command: Command, settings: dict[str, str]):
        await docket.add("trace", key="k")("waits")
        with docket_command.start("top", "--json", *OFTEN, env=settings) as running:
            await eventually(lambda: running.text().count("\n") >= 3)
            running.process.send_signal(signal.SIGINT)
            await eventually(lambda: running.process.poll() is not None)
        await docket.cancel("k")

        assert running.process.returncode == 130
        looks = [json.loads(line) for line in running.text().splitlines()]
        assert all(look["queued"] == 1 and look["queued_since"] for look in looks)
        assert looks[0]["time"] < looks[1]["time"]
        assert looks[0]["longest_running"] == []


def test_a_docket_in_memory_is_refused(docket_command: Command):
    refused = docket_command("top", "-u", "memory://here")

    assert refused.returncode == 1
    assert refused.stderr.startswith("Error: memory://here lives inside one process, and this one is another")


def test_too_short_an_interval_is_a_wrong_use(docket_command: Command):
    refused = docket_command("top", "--interval", "10ms")

    assert refused.returncode == 2
    assert "look every 100ms at most" in refused.stderr


def test_help_imports_no_rich(tmp_path: Path):
    program = "import sys; from docket.cli._top import top; from docket.cli._watch import watch; print('rich' in sys.modules)"
    shown = subprocess.run(
        [*Command(tmp_path).entry[:1], "-c", program], cwd=tmp_path, env=environment(), capture_output=True, text=True, timeout=DEADLINE, check=True
    )

    assert shown.stdout == "False\n"
