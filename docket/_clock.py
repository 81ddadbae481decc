"""Where the time comes from. Code asks a `Clock`; only the edges build the real one."""

import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from datetime import datetime, timedelta, timezone
from functools import lru_cache
from typing import ClassVar

import anyio

__all__ = ["SYSTEM", "Clock", "from_us", "iso_us", "to_us"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """This gives an aware moment as whole microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """This gives the UTC moment of a number of microseconds since the epoch, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


def iso_us(microseconds: int) -> str:
    """This gives what `from_us(...).isoformat()` gives, in a third of the time: moments that are printed lie close together."""
    seconds, rest = divmod(microseconds, 1_000_000)
    return f"{_iso_second(seconds)}.{rest:06d}+00:00" if rest else f"{_iso_second(seconds)}+00:00"


@lru_cache(maxsize=64)
def _iso_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).replace(tzinfo=None).isoformat()


class Clock:
    """This is the system's time; tests hand in another."""

    jumps: ClassVar[bool] = False
    """Whether a test moves it. Only what runs in this process can follow it then: on a server the scripts go by the server's own time."""

    def now_us(self) -> int:
        """This gives the wall time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def now(self) -> datetime:
        """This gives the wall time, aware, in UTC."""
        return datetime.now(timezone.utc)

    def lead_us(self) -> int:
        """This tells how far the wall time is ahead of the time by which leases, heartbeats and places lapse: a jump takes none of them away."""
        return 0

    def stamp(self) -> str:
        """This spells the time for a script that runs in this process: the wall time, and behind it the time of leases where that is another."""
        return str(self.now_us())

    def takes(self, seconds: float) -> float:
        """This tells for how many seconds to wait until the wall time is so much later; for ever, where it stands still."""
        return seconds

    def on_jump(self, callback: Callable[[], object]) -> AbstractContextManager[None]:
        """This has `callback` called in the present event loop whenever the wall time jumps, for as long as it is entered. The system's never says so."""
        return nullcontext()

    def monotonic(self) -> float:
        """This gives seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """This waits that many seconds."""
        await anyio.sleep(seconds)


SYSTEM = Clock()
