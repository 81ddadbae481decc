"""What stands in for dependency functions, in tests. Writing recipes with the stand-ins is `_recipe`'s business."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from typing import Any

from docket.errors import InvalidOption

__all__ = ["StandIns"]

Function = Callable[..., Any]


class StandIns:
    """This holds the stand-ins of a docket or of a worker, for as long as they are entered, in whichever order they are left."""

    def __init__(self) -> None:
        self._entered: list[tuple[Function, Function]] = []
        self.current: Mapping[Function, Function] = {}
        """The stand-ins by what they stand in for. Never changed but replaced, so a run keeps those it began with."""

    @contextmanager
    def override(self, dependency: Function, stand_in: Function) -> Generator[None, None, None]:
        """This has `stand_in` used in the place of `dependency` while it is entered. The last one entered counts."""
        for given in (dependency, stand_in):
            if not callable(given):
                raise InvalidOption(f"override was given {given!r}; give the function that tasks depend on, and a function that stands in for it")
        entry = (dependency, stand_in)
        self._take([*self._entered, entry])
        try:
            yield
        finally:
            self._take([entered for entered in self._entered if entered is not entry])

    def _take(self, entered: list[tuple[Function, Function]]) -> None:
        self._entered = entered
        self.current = dict(entered)
