"""Dead letters: what ended FAILED for good, to be looked at, run again or thrown away. Writing them is part of settling a run."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from docket import instrumentation
from docket._clock import from_us, to_us
from docket._listing import check_count
from docket._messages import loads_trace
from docket._reasons import REASONS
from docket._results import struck_by
from docket._store.records import Ordered, Revival
from docket._task import NamedTask
from docket._when import due
from docket.errors import InvalidArguments, InvalidOption, PayloadError, PayloadRefused, ResultUnavailable, WrongState
from docket.execution import Execution

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping, Sequence

    from docket._store.records import Changed, Letter
    from docket._when import When
    from docket.docket import Docket
    from docket.errors import DocketError

    _Arguments = tuple[Sequence[Any] | None, Mapping[str, Any] | None]

__all__ = ["Attempt", "DeadLetter", "DeadLetterPage", "DeadLetters", "retry_all"]

PAGE = 100
MOST = 200


@dataclass(frozen=True, slots=True)
class Attempt:
    """This is what was kept of one attempt that failed."""

    attempt: int
    """Which attempt it was, from 1."""
    reason: str
    """In a word, why it failed: see `DeadLetter.reason`."""
    error: str
    """What it failed of, in a line."""
    traceback: str
    """The last part of it; empty where there was none."""
    worker: str
    """The worker that ran it."""
    started_at: datetime
    """When it started, in UTC."""
    ended_at: datetime
    """When it ended, in UTC."""


class DeadLetter:
    """This is a run that failed for good: its call, what is known of its attempts, and what can be done about it."""

    def __init__(self, docket: Docket, letter: Letter) -> None:
        self._docket = docket
        self._take(letter)

    def _take(self, letter: Letter) -> None:
        self._letter = letter
        self.attempts: tuple[Attempt, ...] = tuple(attempt for attempt in map(_attempt, letter.history) if attempt is not None)
        """Its attempts, the last one last; of many, the last twenty; in a listing with too much to bring along, the last. Whatever else was written there is left out."""

    @property
    def docket(self) -> Docket:
        """This is the docket it is on."""
        return self._docket

    def __repr__(self) -> str:
        return f"<DeadLetter {self.id}: {self.task}{{{self.key}}} {self.reason}>"

    @property
    def id(self) -> str:
        """This names the letter: the generation of the run, which is used once in a docket."""
        return str(self._letter.generation)

    @property
    def key(self) -> str:
        """This is the key that the run had."""
        return self._letter.key

    @property
    def task(self) -> str:
        """This is the name of the task."""
        return self._letter.function

    @property
    def when(self) -> datetime:
        """This is when the run was due."""
        return from_us(self._letter.when_us)

    @property
    def died_at(self) -> datetime:
        """This is when it ended."""
        return from_us(self._letter.died_us)

    @property
    def attempt(self) -> int:
        """This is which attempt was the last, from 1."""
        return self._letter.attempt

    @property
    def reason(self) -> str:
        """This says in a word why: failed, discarded, poison, undecodable, refused (not signed as it should be, or not accepted), arguments (they do not bind), unknown."""
        return self.attempts[-1].reason if self.attempts else "failed"

    @property
    def error(self) -> str:
        """This is what the last attempt failed of."""
        return self.attempts[-1].error if self.attempts else ""

    @property
    def trace_id(self) -> str | None:
        """This is the trace in which the run was scheduled, in hexadecimal digits."""
        parent = loads_trace(self._letter.trace).get("traceparent", "")
        return parent.split("-")[1] if parent.count("-") == 3 else None

    @property
    def payload_bytes(self) -> int:
        """This is how large the stored arguments are."""
        return self._letter.payload_bytes

    @property
    def args(self) -> tuple[Any, ...]:
        """This is what the call passed by position. Raises `PayloadError` where it cannot be decoded, or was not read because it is too large for a listing."""
        return self._call()[0]

    @property
    def kwargs(self) -> dict[str, Any]:
        """This is what the call passed by name; as with `args`, it may raise `PayloadError`."""
        return self._call()[1]

    def call_repr(self) -> str:
        """This prints the call for a person: values of parameters annotated `Logged`, `...` for the others; all of them where the function is not known here."""
        return self._stored(self._letter).call_repr()

    def _call(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        letter = self._letter
        if letter.payload is None:
            raise PayloadError(
                f"the arguments of {letter.function}{{{letter.key}}} were not read, they are too large for a listing; read them with docket.dead_letters().get({self.id!r})"
            )
        return self._docket.payloads.loads_call(letter.payload, letter.function, letter.key, letter.generation, self._function())

    def _function(self) -> Any:
        registered = self._docket.registry.get(self._letter.function)
        return registered.function if registered else NamedTask(self._letter.function or "?", self._docket)

    def _stored(self, letter: Letter) -> Execution[Any]:
        return Execution.stored(self._docket, self._function(), letter.function, letter.key, letter.payload, letter.trace, letter.generation)

    async def _read_the_rest(self) -> None:
        """What a listing had left out is read before it is needed. If it is gone, that is seen when the run is to be made."""
        letter = None if self._letter.is_whole else await self._docket.store.letters.whole(self.id)
        if letter is not None:
            self._take(letter)

    async def retry(self, *, when: When | None = None, args: Sequence[Any] | None = None, kwargs: Mapping[str, Any] | None = None) -> Execution[Any]:
        """This runs it again under its key, as a new run of its first attempt, now or at `when`, with other arguments if they are given.

        In the same step the letter goes, so of two who ask at once one runs it. `args` or `kwargs` alone leave the other as it was. The trace stays; what is
        known of the attempts goes with the letter. Works without the task code; with it, arguments are checked.

        Raises `WrongState` when something is scheduled, queued or running under the key, or a strike means the call: the letter stays. `ResultUnavailable`
        when the letter is gone: run again or thrown away by somebody, or expired. `InvalidArguments`. `PayloadError` where arguments that are kept cannot be decoded,
        `PayloadRefused` where they are signed, and not for this docket with one of its keys. `InDoubt` says that it may have been run again.
        """
        return await self._retry(when, None if args is None and kwargs is None else (args, kwargs))

    async def _retry(self, when: When | None, edits: _Arguments | None) -> Execution[Any]:
        docket = self._docket
        moment = due(when, docket.clock)
        is_needed = docket.payloads.signs or docket.strike_list.in_effect if edits is None else edits[0] is None or edits[1] is None
        if is_needed:
            await self._read_the_rest()
        letter = self._letter
        payload = seal = None
        execution = self._stored(letter)
        if edits is not None:
            execution = self._edited(*edits)
            payload = docket.payloads.dumps_call(execution.args, execution.kwargs, execution.function)
            seal = docket.payloads.sealing(letter.function, letter.key, payload)
        elif docket.payloads.signs and letter.payload is not None:
            seal = docket.payloads.resealing(letter.function, letter.key, letter.generation, letter.payload)
        if (strike := docket.strike_list.stricken_by(execution)) is not None:
            raise WrongState(f"{self._named} cannot be run again: {struck_by(strike)}; docket.restore(...) ends that")

        revival = Revival(letter.key, letter.generation, None if moment is None else to_us(moment), payload, seal)
        with instrumentation.span("docket.retry", {**docket.labels(), "docket.task": letter.function, "docket.key": letter.key}):
            answer = await docket.store.lifecycle.revive(revival)
        if answer.state is None or answer.word != "done":
            self._refuse(answer)
        if edits is None:
            sent = letter.payload if seal is None else seal(answer.generation)
            execution = self._stored(replace(letter, payload=sent, generation=answer.generation))
        execution.ordered(Ordered(created=True, generation=answer.generation, state=answer.state, when_us=answer.when_us))
        return execution

    def _edited(self, args: Sequence[Any] | None, kwargs: Mapping[str, Any] | None) -> Execution[Any]:
        """The call with other arguments. Raises `InvalidArguments` where the function is known and does not take them."""
        letter = self._letter
        stored: tuple[Sequence[Any], Mapping[str, Any]] = self._call() if args is None or kwargs is None else ((), {})
        positional, named = tuple(stored[0] if args is None else args), dict(stored[1] if kwargs is None else kwargs)
        registered = self._docket.registry.get(letter.function)
        if registered is not None:
            registered.handle.shape.check(registered.name, positional, named)
        return Execution(
            self._docket, self._function(), positional, named, letter.key, None, 1, loads_trace(letter.trace) or None, function_name=letter.function
        )

    def _refuse(self, answer: Changed) -> NoReturn:
        if answer.state is not None:
            raise WrongState(f"{self._named} cannot be run again: a run of that key is {answer.state.value}; wait for its end, or cancel it first")
        if answer.word == "sealed":
            raise PayloadRefused(
                f"{self._named} cannot be run again as it is: its arguments are signed for the run that died, and this docket has no signing_keys to sign "
                "them anew; give the keys, or other arguments in place of all of them"
            )
        raise ResultUnavailable(f"{self._named} cannot be run again: its dead letter is gone; somebody has run it again or thrown it away, or it has expired")

    @property
    def _named(self) -> str:
        return f"{self.task}{{{self.key}}}"

    async def discard(self) -> bool:
        """This throws the letter away, and says whether it was still there. Safe to repeat."""
        return await self._docket.store.letters.discard([self.id]) > 0


def _attempt(line: bytes) -> Attempt | None:
    try:
        told = json.loads(line)
        return Attempt(
            int(told["attempt"]), str(told["reason"]), str(told["error"]), str(told["traceback"]), str(told["worker"]),
            datetime.fromisoformat(told["started_at"]), datetime.fromisoformat(told["ended_at"]),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError):
        return None


def _place(cursor: str) -> tuple[int, str]:
    died_us, _, generation = cursor.partition("-")
    if not (died_us.isdecimal() and generation.isdecimal()):
        raise InvalidOption(f"{cursor!r} is no cursor of a listing of dead letters; pass what the page before gave, or None to begin")
    return int(died_us), generation


@dataclass(frozen=True, slots=True)
class DeadLetterPage:
    """This is a page of dead letters, and where the next begins (None: there is none)."""

    letters: list[DeadLetter]
    """What is on it."""
    cursor: str | None
    """Where the next page begins; None: this is the last."""


async def retry_all(
    letters: AsyncIterable[DeadLetter], *, rate: float | None = None, when: When | None = None, edit: Callable[[DeadLetter], _Arguments] | None = None
) -> AsyncIterator[tuple[DeadLetter, Execution[Any] | DocketError]]:
    """This runs letters again, one after another, at most `rate` a second (None: all at once) from `when` on: spread by their due times, so nobody waits here.

    It gives each with what was scheduled, or with the reason why it stays or is gone: something is scheduled, queued or running under its key, a strike means
    it, its arguments are not signed as they should be, ... `edit` gives the arguments that a letter is to have, as `DeadLetter.retry` takes them.
    """
    if rate is not None and not 0 < rate < float("inf"):
        raise InvalidOption(f"rate is {rate!r}; give how many may run again in a second, more than 0, or None for no limit")
    first: datetime | None = None
    scheduled = 0
    async for letter in letters:
        clock = letter.docket.clock
        first = first or due(when, clock) or clock.now()
        moment = when if rate is None else first + timedelta(seconds=scheduled / rate)
        try:
            args, kwargs = (None, None) if edit is None else edit(letter)
            execution = await letter.retry(when=moment, args=args, kwargs=kwargs)
        except (WrongState, ResultUnavailable, PayloadError, InvalidArguments) as exc:  # of this letter alone
            yield letter, exc
        else:
            scheduled += 1
            yield letter, execution


class DeadLetters:
    """This lists dead letters, the latest first: with `async for` all of them, with `page` a page at a time, which may be empty and not the last.

    Those that die meanwhile are left out, and so are those that go; the others come once. Of 200 letters, eight megabytes of arguments and attempts are brought along;
    the others tell of their last attempt, and `get` reads the rest.
    """

    def __init__(self, docket: Docket, *, task: str | None = None, key_prefix: str | None = None, reason: str | None = None, limit: int | None = None) -> None:
        if limit is not None:
            check_count("limit", limit, None)
        if reason not in (None, *REASONS):
            raise InvalidOption(f"reason is {reason!r}; give one of {', '.join(REASONS)}, or None for all")
        self._docket = docket
        self._task = task
        self._prefix = key_prefix or ""
        self._reason = reason
        self._limit = limit

    async def get(self, letter_id: str) -> DeadLetter | None:
        """This reads one by its id, all there is of it; None when it is gone, or is none of these."""
        letter = await self._docket.store.letters.whole(letter_id)
        if letter is None or self._task not in (None, letter.function) or not letter.key.startswith(self._prefix):
            return None
        return self._made(letter)

    async def page(self, cursor: str | None = None, size: int = PAGE) -> DeadLetterPage:
        """This gives a page of at most `size` letters. A cursor belongs to the listing that gave it: any other raises `InvalidOption`."""
        check_count("size", size, MOST)
        letters = self._docket.store.letters
        start = None if cursor is None else _place(cursor)
        found = await letters.newest(start, size)
        read = await letters.read([generation for _, generation in found], task=self._task, key_prefix=self._prefix)
        wanted = [made for letter in read if letter is not None and (made := self._made(letter)) is not None]
        return DeadLetterPage(wanted, None if len(found) < size else "{}-{}".format(*found[-1]))

    def _made(self, letter: Letter) -> DeadLetter | None:
        made = DeadLetter(self._docket, letter)
        return made if self._reason in (None, made.reason) else None

    async def __aiter__(self) -> AsyncIterator[DeadLetter]:
        left, cursor = self._limit, None
        while True:
            page = await self.page(cursor, MOST)
            for letter in page.letters[:left]:
                yield letter
            left, cursor = None if left is None else left - len(page.letters), page.cursor
            if cursor is None or (left is not None and left <= 0):
                return

    async def discard(self) -> int:
        """This throws all of these away, and says how many there were. Those that die meanwhile stay."""
        gone = 0
        some: list[str] = []
        async for letter in self:
            some.append(letter.id)
            if len(some) == MOST:
                gone += await self._docket.store.letters.discard(some)
                some = []
        return gone + await self._docket.store.letters.discard(some)
