"""Whether the loop turns is told from outside of it."""

# When it last beat is looked at from outside, as nobody else may.
# pyright: reportPrivateUsage=false

from __future__ import annotations

import asyncio
import time

import pytest

from docket._worker import _pulse
from docket._worker._pulse import Pulse
from tests._waiting import eventually


async def test_a_loop_that_turns_beats(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "INTERVAL", 0.001)

    with Pulse() as pulse:
        before = pulse.last
        await eventually(lambda: pulse.last > before)


async def test_a_loop_that_is_blocked_falls_silent(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "INTERVAL", 0.001)

    with Pulse() as pulse:
        await asyncio.sleep(0)
        time.sleep(0.05)  # blocks the loop: that is the point

        assert pulse.silence() >= 0.05


async def test_it_stops_when_it_is_left(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(_pulse, "INTERVAL", 0.001)

    with Pulse() as pulse:
        pass
    beat = pulse.last
    await asyncio.sleep(0.01)

    assert pulse.last == beat
