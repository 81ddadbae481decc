"""`MaxDeliveries`: how many workers a task may take down."""

from __future__ import annotations

from typing import TYPE_CHECKING

from docket.dependencies._base import Dependency
from docket.errors import InvalidOption

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["MaxDeliveries"]


class MaxDeliveries(Dependency):
    """This ends a run FAILED after so many workers have died while they ran it and nothing else; in place of the docket's `max_deliveries`.

    A worker that dies takes down everything it runs, so one death proves nothing: the runs it had are tried again one at a
    time, and only a death while a run is alone in its worker counts.
    """

    single = True

    if TYPE_CHECKING:

        async def __aenter__(self) -> Self: ...

    def __init__(self, count: int) -> None:
        if isinstance(count, bool) or count < 1:
            raise InvalidOption(f"MaxDeliveries({count!r}): give a whole number of at least 1")
        self.count = count

    def __repr__(self) -> str:
        return f"MaxDeliveries({self.count})"
