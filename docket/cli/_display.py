"""Something live in a terminal, which gets its terminal back as it was: at the end, whatever that is, and for as long as it is suspended."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from docket.cli._keyboard import Keyboard

if TYPE_CHECKING:
    from types import TracebackType

    from rich.live import Live
    from typing_extensions import Self

__all__ = ["Display"]


def _nothing(*_: object) -> None: ...


class Display:
    """This shows what `make` makes, and hands over keys, for as long as it is entered, in an event loop."""

    def __init__(
        self,
        make: Callable[[], Live],
        *,
        on_key: Callable[[str], object] = _nothing,
        on_resize: Callable[[], object] = _nothing,
        on_return: Callable[[], object] = _nothing,
    ) -> None:
        self._make = make
        self._on_key = on_key
        self._on_return = on_return
        self._handlers = {number: handler for name, handler in (("SIGTSTP", self._suspend), ("SIGWINCH", on_resize)) if (number := getattr(signal, name, None))}
        self._shown = ExitStack()
        self._live: Live | None = None

    @property
    def live(self) -> Live:
        """This is what is shown now."""
        assert self._live is not None
        return self._live

    def __enter__(self) -> Self:
        for number, handler in self._handlers.items():
            with suppress(NotImplementedError):  # Windows
                asyncio.get_running_loop().add_signal_handler(number, handler)
        self._appear()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._shown.close()
        for number in self._handlers:
            with suppress(NotImplementedError):
                asyncio.get_running_loop().remove_signal_handler(number)

    def _appear(self) -> None:
        with ExitStack() as shown:
            shown.enter_context(Keyboard(self._on_key))  # also where keys do nothing: an echo, as of Ctrl-C, would get in the way
            self._live = shown.enter_context(self._make())
            self._shown = shown.pop_all()

    def _suspend(self) -> None:
        """Ctrl-Z: the shell has the terminal, until `fg`."""
        self._shown.close()
        os.kill(os.getpid(), signal.SIGSTOP)
        self._appear()
        self._on_return()
