"""What time it is for the scripts, whose clock wrote every moment of a record: this machine's may be minutes off the server's."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from docket.docket import Docket

__all__ = ["server_clock", "server_now_us"]


async def server_now_us(docket: Docket) -> int:
    """This gives the server's time in microseconds since the epoch; the server is asked now and then. In memory there is one clock only."""
    return docket.clock.now_us() if docket.store.is_memory else await docket.store.inspection.server_now_us()


async def server_clock(docket: Docket) -> Callable[[], int]:
    """This asks the server once, and gives a function that tells its time from then on."""
    monotonic = docket.clock.monotonic
    origin = await server_now_us(docket) - int(monotonic() * 1_000_000)
    return lambda: origin + int(monotonic() * 1_000_000)
