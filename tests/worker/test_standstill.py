"""What holds up an event loop is named in the log, with its stack, once and then ever less often."""

# What a worker does inside is looked at, and disturbed, at moments that nobody outside can pick.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import copy_context
from datetime import timedelta

import pytest

from docket import Docket, Execution
from docket._context import current_execution
from docket._worker import _standstill
from docket._worker._pulse import INTERVAL, Pulse
from docket._worker._runs import Runs
from docket._worker._standstill import Standstill
from tests.dependencies._runs import an_execution
from tests.worker._hands import crew_of


async def nothing(*args: object) -> None: ...


class Scene:
    """A watched loop whose time the test tells."""

    def __init__(self, docket: Docket, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(_standstill, "monotonic", lambda: self.now)
        monkeypatch.setattr("docket._worker._pulse.monotonic", lambda: self.now)
        self.stalls = 0
        self.pulse = Pulse()
        crew = crew_of(docket, stall_limit=timedelta(seconds=10))
        self.watch = Standstill(crew, Runs(1, nothing), self.pulse, asyncio.get_running_loop(), threading.get_ident(), self._on_stall)
        self.due = 0.0
        self.look()

    def look(self) -> float:
        wait = self.watch.look()
        self.due = self.now + wait
        return wait

    def _on_stall(self) -> None:
        self.stalls += 1

    def stands_still_until(self, seconds: float) -> None:
        """Looks whenever the watch says so, while the loop does nothing."""
        end = self.pulse.last + INTERVAL + seconds
        while self.due <= end:
            self.now = self.due
            self.look()
        self.now = end

    def turns(self) -> None:
        """Has the loop go on, and the watch see that."""
        loop = asyncio.get_running_loop()
        self.pulse._tick(loop)
        self.pulse.__exit__(None, None, None)
        self.look()


@pytest.fixture
async def scene(docket: Docket, monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(docket, monkeypatch)


pytestmark = pytest.mark.only_memory("nothing here asks Redis")


async def test_a_loop_that_turns_is_not_spoken_of(scene: Scene, caplog: pytest.LogCaptureFixture):
    for _ in range(5):
        scene.now += INTERVAL
        scene.turns()
        assert 0 < scene.look() <= 1 + INTERVAL

    assert caplog.messages == []


async def test_one_that_stands_still_is_spoken_of_at_growing_intervals(scene: Scene, caplog: pytest.LogCaptureFixture):
    scene.stands_still_until(0.9)
    assert caplog.messages == []
    scene.stands_still_until(9)
    assert [line.partition(" s: ")[0].rpartition(" ")[2] for line in caplog.messages] == ["1.0", "2.0", "4.0", "8.0"]

    scene.turns()
    assert caplog.messages[-1].endswith(" let go of the event loop after 9.0 s")

    caplog.clear()
    scene.stands_still_until(1.5)
    scene.turns()
    assert [line.partition(" event loop ")[2][:11] for line in caplog.messages] == ["for 1.0 s: ", "after 1.5 s"]


async def test_one_that_stands_still_for_too_long_has_stalled_until_it_turns(scene: Scene, caplog: pytest.LogCaptureFixture):
    scene.stands_still_until(9.9)
    assert (scene.stalls, scene.watch.is_stalled) == (0, False)

    scene.stands_still_until(30)
    assert (scene.stalls, scene.watch.is_stalled) == (1, True)

    scene.pulse.last = scene.now  # it turns, which nobody has looked at yet
    assert not scene.watch.is_stalled
    scene.turns()
    assert not scene.watch.is_stalled


async def test_a_task_that_is_no_run_is_named_by_what_asyncio_knows(scene: Scene, caplog: pytest.LogCaptureFixture):
    task = asyncio.current_task()
    assert task is not None
    task.set_name("my task")

    scene.stands_still_until(1.2)

    assert caplog.messages[0].startswith("The asyncio task 'my task' (")
    assert "stands_still_until" in caplog.messages[0]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="before, a task does not tell its context")
async def test_a_task_of_a_run_is_named_after_the_run(scene: Scene, caplog: pytest.LogCaptureFixture):  # pragma: no cover - see above
    execution: Execution[None] = an_execution(nothing)

    async def part() -> None:
        scene.stands_still_until(1.2)

    context = copy_context()
    context.run(current_execution.set, execution)
    await context.run(asyncio.create_task, part())

    assert caplog.messages[0].startswith(f"Task nothing{{{execution.key}}} has been blocking")


async def test_a_callback_is_called_one(scene: Scene, caplog: pytest.LogCaptureFixture):
    done = asyncio.Event()

    def callback() -> None:
        scene.stands_still_until(1.2)
        done.set()

    asyncio.get_running_loop().call_soon(callback)
    await done.wait()

    assert caplog.messages[0].startswith("A callback has been blocking the event loop for 1.0 s")


async def test_of_a_thread_that_is_gone_there_is_no_stack(scene: Scene, caplog: pytest.LogCaptureFixture):
    scene.watch._thread = 0

    scene.stands_still_until(1.2)

    assert caplog.messages[0].endswith("It is here:\n")


async def test_a_stack_without_code_of_the_users_is_shown_as_it_is(scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_standstill, "_OURS", "")  # as though everything were ours

    scene.stands_still_until(1.2)

    assert "stands_still_until" in caplog.messages[0]


async def test_one_that_lets_go_while_it_is_looked_at_is_not_accused(scene: Scene, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch):
    def current(loop: object) -> None:
        scene.pulse.last = scene.now

    monkeypatch.setattr(asyncio, "current_task", current)

    scene.now = scene.due
    scene.look()

    assert caplog.messages == []


async def test_a_process_that_was_stopped_accuses_nobody_and_says_so(scene: Scene, caplog: pytest.LogCaptureFixture):
    scene.now += 60  # and the thread has not looked either
    scene.look()
    assert caplog.messages == []
    assert scene.stalls == 0

    scene.turns()

    [line] = caplog.messages
    assert line.startswith("The event loop stood still for 59.8 s, and so did the thread that watches it: this process was stopped, or code held the GIL.")
    scene.turns()
    assert len(caplog.messages) == 1
