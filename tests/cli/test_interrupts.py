"""Commands that go on until they are told to stop. (That signals end them: `test_watch.py`, `test_top.py`.)"""

import asyncio

import pytest

from docket.cli._interrupts import run_until_interrupted


def test_the_status_is_what_the_command_returns():
    async def main() -> int:
        await asyncio.sleep(0)
        return 3

    assert run_until_interrupted(main()) == 3


def test_an_interrupt_outside_of_the_event_loop_ends_quietly_too():
    async def main() -> int:
        raise KeyboardInterrupt

    assert run_until_interrupted(main()) == 130


def test_a_cancellation_that_no_signal_asked_for_is_none_of_ours():
    async def main() -> int:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_until_interrupted(main())
