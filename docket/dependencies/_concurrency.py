"""`ConcurrencyLimit`: at most so many runs at once. Who is held back waits in line and is woken by the script that frees the place."""

from __future__ import annotations

from docket._store.records import Requirement
from docket.dependencies._limits import Limit
from docket.errors import InvalidOption

__all__ = ["ConcurrencyLimit"]


class ConcurrencyLimit(Limit):
    """This lets at most `max_concurrent` runs be under way at once: of the task, for each value of an argument, or of all tasks that share a `scope`.

    Three forms: `ConcurrencyLimit(3)`; `ConcurrencyLimit("customer_id", max_concurrent=1)`; and
    `customer_id: Annotated[int, ConcurrencyLimit(1)]`. A run that finds no place is QUEUED and waits in order of arrival, taking no slot of its
    worker. A worker that dies gives its places up when they lapse, one `redelivery_timeout` later. Lowering the number below the
    runs that are under way stops none of them.
    """

    kind = "concurrency"
    single = True

    def __init__(self, limited: int | str | None = None, /, max_concurrent: int | None = None, *, scope: str | None = None) -> None:
        most = 1 if max_concurrent is None else max_concurrent
        if isinstance(limited, str):
            super().__init__(scope, limited)
        else:
            super().__init__(scope)
            if limited is not None:
                if max_concurrent is not None:
                    raise InvalidOption(
                        f"ConcurrencyLimit({limited!r}, max_concurrent={max_concurrent!r}) gives two numbers; the first is for the name of an argument"
                    )
                most = limited
        if isinstance(most, bool) or not isinstance(most, int) or most < 1:  # pyright: ignore[reportUnnecessaryIsInstance] - callers without a type checker
            raise InvalidOption(f"ConcurrencyLimit lets {most!r} runs be under way; give a whole number of at least 1")
        self.max_concurrent = most

    def __repr__(self) -> str:
        return f"ConcurrencyLimit({'' if self.argument is None else repr(self.argument) + ', '}max_concurrent={self.max_concurrent})"

    @property
    def concurrency_key(self) -> str:
        """This names whom the current run shares its places with. Raises `RuntimeError` outside a run."""
        return self.identity

    def requirement(self, identity: str) -> Requirement:
        return Requirement(self.kind, identity, str(self.max_concurrent))
