"""Which calls are struck: the list that a docket decides by, and that can be had alone.

What an instruction says is `_instructions`' business, which calls it means `_matching`'s, and keeping up with Redis the store's.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Generator, Iterable, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast

from docket import instrumentation
from docket._clock import SYSTEM
from docket._instructions import LiteralOperator, Operator, Restore, Strike, StrikeInstruction
from docket._keys import Keys
from docket._literals import EnumMember
from docket._matching import Matcher
from docket._options import DocketOptions
from docket._signatures import is_async, name_of
from docket._store import Store
from docket._task import Handle
from docket.errors import InvalidOption, NotEntered, PayloadError

if TYPE_CHECKING:
    from types import TracebackType

    from redis.credentials import CredentialProvider
    from typing_extensions import Self

    from docket._store.strikes import StrikesStore
    from docket.docket import Docket
    from docket.execution import Execution

__all__ = ["Condition", "EnumMember", "LiteralOperator", "Operator", "Restore", "Strike", "StrikeInstruction", "StrikeList"]

logger = logging.getLogger("docket.strikelist")

Condition = Callable[["Execution[Any]"], bool]
"""This says of a run whether it is struck, in the process that runs it."""

_MANY = 20
"""Changes at once that are logged one by one; of more the log says how many."""


class _ByCondition(Strike):
    """This stands for a condition that struck a run."""

    def call_repr(self) -> str:
        """This names the condition."""
        return f"the condition {self.function}"


class StrikeList:
    """This knows which calls are struck. `async with` it to follow the strikes of the docket of that name; without a URL it is this process's alone.

    A docket has one of its own, `Docket.strike_list`, which follows for as long as the docket is entered. It is to be used in one event loop.
    """

    def __init__(
        self,
        url: str | None = None,
        name: str = "strikelist",
        enable_internal_instrumentation: bool = False,
        credential_provider: CredentialProvider | None = None,
    ) -> None:
        self._options = DocketOptions(
            name=name,
            url=DocketOptions.url if url is None else url,
            enable_internal_instrumentation=enable_internal_instrumentation,
            credential_provider=credential_provider,
        )
        self.url = url
        self.enable_internal_instrumentation = enable_internal_instrumentation
        self.credential_provider = credential_provider
        self._docket: Docket | None = None
        self._store: Store | None = None
        self._following: StrikesStore | None = None
        self._shared: dict[bytes, Strike] = {}
        """What stands for the whole docket, as it is written there: several spellings may say the same."""
        self._own: dict[bytes, Strike] = {}
        self._times: Counter[Strike] = Counter()
        """How often each strike stands, in `_shared` and in `_own`."""
        self._undecodable: set[bytes] = set()
        self._conditions: dict[Condition, None] = {}
        self._failed_conditions: set[Condition] = set()
        self._matcher = Matcher()
        self._on_restore: list[Callable[[], None]] = []
        self.in_effect = False
        """Whether anything is struck, or a condition may strike: all that is looked at for a task while there is none."""

    @classmethod
    def of_docket(cls, docket: Docket) -> StrikeList:
        """This makes the list of a docket, which has it follow its store while it is entered; not part of the public interface."""
        strikes = cls()
        strikes._docket = docket
        return strikes

    def beside(self) -> StrikeList:
        """This makes another list of the same docket, for another event loop: what this one strikes, that one does, too; not part of the public interface."""
        return _Beside(self, self._docket)

    def __repr__(self) -> str:
        return f"<StrikeList {self.name!r}, {len(self.instructions)} in effect>"

    # What it is called

    @property
    def name(self) -> str:
        """This is the name of the docket whose strikes these are."""
        return self._options.name if self._docket is None else self._docket.name

    @property
    def prefix(self) -> str:
        """This is what every key of the docket starts with."""
        return Keys(self.name).prefix

    @property
    def strike_key(self) -> str:
        """This is the key that the strikes stand under."""
        return Keys(self.name).strikes

    # Entering and leaving

    async def __aenter__(self) -> Self:
        if self._docket is not None or self.url is None:
            return self  # the docket has it follow, or there is nothing to follow
        if self._store is not None:
            raise NotEntered(f"strike list {self.name!r} is entered already; leave it first, or make another StrikeList")
        self._store = await Store.open(
            self.name, self.url, execution_ttl=DocketOptions.execution_ttl, clock=SYSTEM, credential_provider=self.credential_provider
        )
        self.follow(self._store.strikes)
        return self

    async def __aexit__(self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None) -> None:
        store, self._store = self._store, None
        if store is not None:
            self.unfollow(store.strikes)
            await store.aclose()

    async def wait_for_strikes_loaded(self) -> None:
        """This returns once the strikes are known: at once, since entering reads them. Raises `NotEntered` where nobody follows them."""
        self._shared_strikes()

    @property
    def is_loaded(self) -> bool:
        """This says whether the strikes are known. Any thread may ask."""
        if self._docket is not None:
            return self._following is not None and self._docket.is_connected
        return self.url is None or self._following is not None

    def _shared_strikes(self) -> StrikesStore | None:
        """Where instructions are sent; None where they are for this process alone."""
        if self._docket is not None:
            store = self._docket.store  # raises NotEntered, with advice
            return self._following or store.strikes
        if self.url is None:
            return None
        if self._store is None:
            raise NotEntered(f"strike list {self.name!r} is not entered; do this inside `async with strikes:`, which connects it")
        return self._store.strikes

    def follow(self, strikes: StrikesStore) -> None:
        """This takes what is struck from a store, now and whenever it changes: for whoever opened that store; not part of the public interface."""
        self._forget_shared()
        self._following = strikes
        strikes.follow(self)
        self._take(strikes.instructions, ())
        if self._shared:
            logger.info("%d strikes are in effect on docket %r", len(self._shared), self.name, extra={"docket.name": self.name})

    def unfollow(self, strikes: StrikesStore) -> None:
        """This stops taking what is struck from a store, and forgets what came from it; not part of the public interface."""
        strikes.unfollow(self)
        self._following = None
        self._forget_shared()

    def _forget_shared(self) -> None:
        self._take((), list(self._shared))

    # Changing it

    async def strike(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This has calls not run: of a function or of all (None), all of them or those whose argument for `parameter` compares so with `value`.

        On return it is in effect everywhere: no worker runs what it claims from now on. It says whether this changed anything.
        Safe to repeat. Raises `InvalidOption` for what cannot be struck, `ServerError` when there are too many, and `RedisUnavailable`.
        """
        return await self.send_instruction(Strike(_named(function), parameter, cast("Operator", operator), value))

    async def restore(
        self,
        function: Callable[..., Any] | str | None = None,
        parameter: str | None = None,
        operator: Operator | LiteralOperator = Operator.EQUAL,
        value: object = None,
    ) -> bool:
        """This takes back the strike that says the same, and says whether there was one. What was dropped meanwhile stays dropped."""
        return await self.send_instruction(Restore(_named(function), parameter, cast("Operator", operator), value))

    async def send_instruction(self, instruction: StrikeInstruction) -> bool:
        """This does what an instruction says, everywhere that this list reaches, and says whether that changed anything."""
        _check_direction(instruction)
        with instrumentation.span(f"docket.{instruction.direction}", {"docket.name": self.name, **instruction.labels()}):
            strikes = self._shared_strikes()
            if strikes is None:
                return self.update(instruction)
            return await strikes.change(instruction.field, restore=isinstance(instruction, Restore))

    def update(self, instruction: StrikeInstruction) -> bool:
        """This does what an instruction says in this process alone, and says whether that changed anything.

        What is struck so stays until it is restored so; restoring what the whole docket has struck holds here until it is struck again.
        """
        _check_direction(instruction)
        field = instruction.field
        if isinstance(instruction, Strike):
            if field in self._own:
                return False
            self._own[field] = instruction
            if self._holds_now(instruction):
                self._log(instruction)
        else:
            own = self._own.pop(field, None)
            spellings = [spelling for spelling, strike in self._shared.items() if strike.field == field]
            ended = [*([] if own is None else [own]), *(self._shared.pop(spelling) for spelling in spellings)]
            if not ended:
                return False
            for strike in ended:
                self._holds_no_more(strike)
            self._log(instruction)
        self._changed(restored=isinstance(instruction, Restore))
        return True

    def add_condition(self, condition: Condition) -> None:
        """This has a function of your own decide as well, in this process: called with the `Execution`, it gives True to have it not run.

        It is called for every task that is scheduled or run here, so it should take no time; one that fails strikes nothing. Safe to repeat.
        Raises `InvalidOption` for an asynchronous one.
        """
        if is_async(condition):
            raise InvalidOption(f"{name_of(condition)} is asynchronous; a condition has to answer at once, so give a plain function")
        self._conditions[condition] = None
        self._changed(restored=False)

    def remove_condition(self, condition: Condition) -> None:
        """This has a condition decide no more. Safe to repeat."""
        self._conditions.pop(condition, None)
        self._failed_conditions.discard(condition)
        self._changed(restored=True)

    @contextmanager
    def when_restored(self, on_restore: Callable[[], None]) -> Generator[None, None, None]:
        """This calls, for as long as it is entered, whenever something was restored: what is to run by itself may run again."""
        self._on_restore.append(on_restore)
        try:
            yield
        finally:
            self._on_restore.remove(on_restore)

    # Asking it

    @property
    def instructions(self) -> tuple[Strike, ...]:
        """This is what is struck now, without conditions."""
        return tuple(self._times)

    def is_stricken(self, target: Execution[Any] | Mapping[str, Any]) -> bool:
        """This says whether a run is struck; of arguments alone, by parameter, whether a strike of all functions means them."""
        if not self.in_effect:
            return False
        if isinstance(target, Mapping):
            return self._matcher.meaning_all_with(target) is not None
        return self.stricken_by(target) is not None

    def stricken_by(self, execution: Execution[Any]) -> StrikeInstruction | None:
        """This gives what strikes a run; None when nothing does. Where a condition does, what is given prints as it."""
        if not self.in_effect:
            return None
        strike = self._matcher.meaning(execution)
        if strike is not None:
            return strike
        for condition in self._conditions:
            if self._is_met(condition, execution):
                return _ByCondition(name_of(condition))
        return None

    def _is_met(self, condition: Condition, execution: Execution[Any]) -> bool:
        try:
            return bool(condition(execution))
        except Exception:  # the condition is the user's; without it the task is run
            if condition not in self._failed_conditions:
                self._failed_conditions.add(condition)
                logger.exception("The condition %s failed for %s, so it strikes nothing; this is said once", name_of(condition), execution.function_name)
            return False

    # Following it

    def on_strikes(self, struck: Iterable[bytes], restored: Iterable[bytes]) -> None:
        """This takes a change from the store that is followed; not part of the public interface."""
        changes = self._take(struck, restored)
        if len(changes) > _MANY:
            logger.info("%d strikes came or went; %d are in effect on docket %r", len(changes), len(self._shared), self.name, extra={"docket.name": self.name})
            return
        for change in changes:
            self._log(change)

    def _take(self, struck: Iterable[bytes], restored: Iterable[bytes]) -> list[StrikeInstruction]:
        changes: list[StrikeInstruction] = []
        for field in struck:
            strike = self._decoded(field)
            if strike is not None and field not in self._shared:
                self._shared[field] = strike
                if self._holds_now(strike):
                    changes.append(strike)
        for field in restored:
            self._undecodable.discard(field)
            strike = self._shared.pop(field, None)
            if strike is not None and self._holds_no_more(strike):
                changes.append(Restore(strike.function, strike.parameter, strike.operator, strike.value))
        if changes:
            self._changed(restored=isinstance(changes[-1], Restore))
        return changes

    def _holds_now(self, strike: Strike) -> bool:
        """Counts a strike that has come to stand, and says whether it did not stand before."""
        self._times[strike] += 1
        if self._times[strike] > 1:
            return False
        self._matcher.add(strike)
        return True

    def _holds_no_more(self, strike: Strike) -> bool:
        """Counts one that stands no more, and says whether it stands nowhere else."""
        self._times[strike] -= 1
        if self._times[strike]:
            return False
        del self._times[strike]
        self._matcher.remove(strike)
        return True

    def _decoded(self, field: bytes) -> Strike | None:
        try:
            return Strike.read(field)
        except PayloadError as exc:
            if field not in self._undecodable:
                self._undecodable.add(field)
                words = "A strike of docket %r is left out, because a newer version of docket seems to have made it: %s (%r)"
                logger.warning(words, self.name, exc, field[:200], extra={"docket.name": self.name})
            return None

    def _changed(self, *, restored: bool) -> None:
        self.in_effect = bool(self._shared or self._own or self._conditions)
        if restored:
            for on_restore in list(self._on_restore):
                on_restore()

    def _log(self, instruction: StrikeInstruction) -> None:
        doing = "Striking" if isinstance(instruction, Strike) else "Restoring"
        logger.info("%s %r", doing, instruction.call_repr(), extra={"docket.name": self.name, **instruction.labels()})


class _Beside(StrikeList):
    """This follows the same strikes as another list in an event loop of its own; conditions, and what is struck in this process alone, are the other's."""

    def __init__(self, other: StrikeList, docket: Docket | None) -> None:
        super().__init__()
        self._docket = docket
        self._other = other
        self.in_effect = True

    def _changed(self, *, restored: bool) -> None:
        """Something may always be in effect: with the other."""

    def stricken_by(self, execution: Execution[Any]) -> StrikeInstruction | None:
        return super().stricken_by(execution) or self._other.stricken_by(execution)


def _check_direction(instruction: StrikeInstruction) -> None:
    if not instruction.direction:
        raise InvalidOption(f"{instruction!r} says neither strike nor restore; give a Strike or a Restore")


def _named(function: Callable[..., Any] | str | None) -> str | None:
    """What tasks of a function are called, if it is not known as something else."""
    if function is None or isinstance(function, str):
        return function
    held: object = function
    name: object = held.name if isinstance(held, Handle) else getattr(function, "__name__", None)
    if not isinstance(name, str):
        raise InvalidOption(f"{function!r} has no name of its own; give the name that its tasks have")
    return name
