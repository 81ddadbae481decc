"""Where the time comes from. Code asks a `Clock`; only the edges build the real one."""

import time
from datetime import datetime, timedelta, timezone

import anyio

__all__ = ["SYSTEM", "Clock", "from_us", "to_us"]

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)


def to_us(moment: datetime) -> int:
    """This gives an aware moment as whole microseconds since the epoch, exactly."""
    return (moment - _EPOCH) // _MICROSECOND


def from_us(microseconds: int) -> datetime:
    """This gives the UTC moment of a number of microseconds since the epoch, exactly."""
    return _EPOCH + timedelta(microseconds=microseconds)


class Clock:
    """This is the system's time; tests hand in another."""

    def now_us(self) -> int:
        """This gives the wall time in microseconds since the epoch."""
        return time.time_ns() // 1000

    def now(self) -> datetime:
        """This gives the wall time, aware, in UTC."""
        return datetime.now(timezone.utc)

    def monotonic(self) -> float:
        """This gives seconds that never go backwards."""
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        """This waits that many seconds."""
        await anyio.sleep(seconds)


SYSTEM = Clock()
