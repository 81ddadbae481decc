"""What is struck on a docket, kept up to date in this process. What an instruction says, and which calls it means, is `strikelist`'s business."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, NamedTuple, Protocol

import anyio

from docket._messages import loads_netstrings
from docket._redis.errors import divided
from docket._redis.wire import backoff
from docket._store.base import Base, whole
from docket.errors import DocketError, InDoubt, PayloadError, RedisUnavailable, ServerError

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Sequence
    from typing import Any

    from docket._keys import Keys
    from docket._redis.backend import Backend

__all__ = ["MOST_STRIKES", "Follower", "Loaded", "StrikesStore"]

logger = logging.getLogger("docket.redis")

MOST_STRIKES = 10_000
"""Strikes that one docket may have. Every process of it holds them all, and reads them all when it begins."""

CHANGE_PATIENCE = 5.0
"""Seconds for which a change is tried again through an outage, before the caller learns of it."""


SUBSCRIBE_AFTER = 0.05
"""Seconds after which a connection is made to hear of changes. A command that schedules something and leaves knows what it read, and needs none."""


REREAD_EVERY = 5.0
"""Seconds between readings where the server does not let this process hear of changes."""


class Follower(Protocol):
    """This learns what becomes struck and what is restored. Called in the event loop; must neither block nor raise."""

    def on_strikes(self, struck: Iterable[bytes], restored: Iterable[bytes]) -> None:
        """This takes one change."""
        ...


class Loaded(NamedTuple):
    """This is what was read: everything that is struck, and the version that this is at least as new as."""

    version: int
    instructions: frozenset[bytes]


class StrikesStore(Base):
    """This knows what is struck: read when the docket is entered, told of every change, and read again wherever one may have been missed.

    Messages are the quick way and not the sure one: a worker that claims work is told the version with the claim, and reads again
    (`catch_up`) unless its own is that one. So nothing runs that was claimed after a strike.
    """

    def __init__(self, backend: Backend, keys: Keys) -> None:
        super().__init__(backend, keys)
        self.version = 0
        """Which state of all that is struck this one is; 0 before anything ever was."""
        self.instructions: set[bytes] = set()
        """What is struck."""
        self.trouble: str | None = None
        """Why nothing that was claimed is run now, in words: what is struck cannot be read. None while it can."""
        self._followers: list[Follower] = []
        self._missed = asyncio.Event()
        self._reading = asyncio.Lock()
        self._asked = 0
        """How often somebody has asked for a reading so far."""
        self._answered = 0
        """Which of these the last reading was late enough for."""
        self._steps = 0
        """How many single changes were taken in so far."""
        self._shards: Sequence[tuple[Backend, Keys]] = ()
        """Who is handed the version of every change."""

    def hand_to(self, shards: Sequence[tuple[Backend, Keys]]) -> None:
        """This has shards told of every change: those who claim there learn of it from them."""
        self._shards = shards

    def services(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """This names what has to run for changes to be heard of."""
        return (self.watch,)

    def follow(self, follower: Follower) -> None:
        """This tells a follower of everything that changes from now on; what is struck already is in `instructions`."""
        self._followers.append(follower)

    def unfollow(self, follower: Follower) -> None:
        """This tells a follower nothing more."""
        self._followers.remove(follower)

    async def load(self) -> Loaded:
        """This reads what is struck, in one round trip."""
        call = self._backend.call
        # The version first: what is read after it may be newer than it says, which does no harm, and never older
        version, flat = await asyncio.gather(call("HGET", self._keys.meta, "strikes"), call("HGETALL", self._keys.strikes))
        return Loaded(whole(version), frozenset(flat[::2]))

    async def change(self, instruction: bytes, *, restore: bool = False) -> bool:
        """This strikes what an instruction names, or restores it, and says whether that changed anything. Safe to repeat.

        On return this process knows it, and whatever is claimed from now on anywhere is run by a worker that knows it.
        Raises `ServerError` when there are too many strikes; `RedisUnavailable`; `InDoubt`, after which it may have been done.
        """
        verb = "restore" if restore else "strike"
        in_doubt = False

        async def attempt() -> Any:
            nonlocal in_doubt
            try:
                return await self._script(
                    "strike", [self._keys.strikes, self._keys.meta], self._keys.struck, verb, instruction, MOST_STRIKES, len(self._keys.shards)
                )
            except InDoubt:
                in_doubt = True
                raise

        word, *numbers = await self._persist(attempt, CHANGE_PATIENCE)
        if word == b"divided":
            raise divided(self._keys.prefix, len(self._keys.shards), int(numbers[0]))
        if word == b"full":
            raise ServerError(
                f"{numbers[0]} strikes stand on {self._keys.prefix!r}, and {MOST_STRIKES} is the most; "
                "restore what is not needed, or strike many at once: the whole task, or a range with 'between'"
            )
        before, version = map(int, numbers)
        if not self._step(before, version, instruction, restore=restore):
            await self._make_sure_of(instruction, restore=restore)
        await self._hand_on(version)
        return word != b"unchanged" or in_doubt

    async def _hand_on(self, version: int) -> None:
        """Hands the version to every shard. Also that of a change which was there already: whoever made it may have died before this."""

        async def hand(backend: Backend, keys: Keys) -> None:
            await self._persist(lambda: backend.script("hand", [keys.meta], [self._states, version, ""]), CHANGE_PATIENCE)

        try:
            await asyncio.gather(*(hand(backend, keys) for backend, keys in self._shards))
        except RedisUnavailable as exc:
            raise InDoubt(
                f"The change is made, but not every part of the docket could be told, so runs may still begin that it means. Make it again: {exc}"
            ) from exc

    async def _make_sure_of(self, instruction: bytes, *, restore: bool) -> None:
        try:
            await self._persist(self._reading_from_now_on(), CHANGE_PATIENCE)
        except DocketError:  # it has been done all the same; the rest is read when that can be
            self._take(self.version, self.instructions - {instruction} if restore else self.instructions | {instruction})
            self._missed.set()

    async def catch_up(self, version: int, wanted: Callable[[], bool] | None = None) -> None:
        """This returns once everything is known that was struck when an answer gave this version: nearly always at once.

        Otherwise it reads, through an outage or a refusal for as long as it is `wanted`, and then raises what was in the way.
        """
        if version == self.version:
            return
        read = self._reading_from_now_on()
        failures = 0
        while True:
            try:
                await self._persist(read, None, wanted)
            except ServerError as exc:
                if wanted is not None and not wanted():
                    raise
                self.trouble = f"what is struck cannot be read: {exc}"
                logger.error("What is struck cannot be read, so nothing is run until it can be: %s", exc)  # noqa: TRY400 - the server's answer says it all
                await anyio.sleep(backoff(failures) + 1)
                failures += 1
            else:
                return

    # Hearing of changes

    def on_message(self, message: bytes) -> None:
        """This takes one change; after one that does not follow on what is known here everything is read again."""
        try:
            before, version, verb, instruction = loads_netstrings(message)
            follows = self._step(int(before), int(version), instruction, restore=verb == b"restore")
        except (PayloadError, ValueError):
            logger.warning("A change of what is struck cannot be decoded (%d bytes); reading it instead", len(message))
            follows = False
        if not follows:
            self._missed.set()

    def on_interruption(self) -> None:
        """This learns that messages may have been missed."""
        self._missed.set()

    async def watch(self) -> None:
        """This listens for ever, from soon after the start on; it is its owner's to start and to cancel."""
        subscriber = self._backend.subscriber
        if not self._backend.is_memory:
            await anyio.sleep(SUBSCRIBE_AFTER)
        is_heard = await self._subscribe()
        try:
            self._missed.set()  # whatever was struck between the first reading and the subscription
            failures = 0
            while True:
                with anyio.move_on_after(None if is_heard else REREAD_EVERY):
                    await self._missed.wait()
                self._missed.clear()
                try:
                    await self._persist(self._reading_from_now_on(), None)
                    failures = 0
                except Exception:  # the store goes on, and workers ask for themselves
                    logger.exception("What is struck cannot be read, and that will be tried again")
                    self._missed.set()
                    await anyio.sleep(backoff(failures) + 1)
                    failures += 1
        finally:
            with anyio.CancelScope(shield=True):
                await subscriber.remove(self._keys.struck, self)

    async def _subscribe(self) -> bool:
        try:
            await self._backend.subscriber.add(self._keys.struck, self)
        except ServerError as exc:  # an ACL without the channel; messages are only the quick way
            logger.warning("What is struck is read every %g seconds, because changes cannot be heard: %s", REREAD_EVERY, exc)
            return False
        return True

    # Taking it in

    async def read(self) -> None:
        """This reads everything; on return what is known is at least as new as when this was called. Raises `RedisUnavailable` or `ServerError`."""
        await self._reading_from_now_on()()

    def _reading_from_now_on(self) -> Callable[[], Coroutine[Any, Any, None]]:
        """Asks for a reading that begins from here on; one serves everybody who asked before it began."""
        self._asked += 1
        ticket = self._asked

        async def attempt() -> None:
            async with self._reading:
                if self._answered >= ticket:
                    return
                latest, steps = self._asked, self._steps
                loaded = await self.load()
                self._answered, self.trouble = latest, None
                # A change that was taken in meanwhile may be newer than what was read. Without one, what was read counts even
                # if its version is older: the server lost its data, or a replica has taken over
                if steps == self._steps or loaded.version >= self.version:
                    self._take(loaded.version, loaded.instructions)

        return attempt

    def _step(self, before: int, version: int, instruction: bytes, *, restore: bool) -> bool:
        """Takes in a single change, if it is the one that follows, or is known already."""
        if version == self.version:
            return True
        if before != self.version:
            return False
        self._steps += 1
        self.version = version
        if restore:
            self.instructions.discard(instruction)
            self._tell((), (instruction,))
        else:
            self.instructions.add(instruction)
            self._tell((instruction,), ())
        return True

    def _take(self, version: int, instructions: Iterable[bytes]) -> None:
        now = set(instructions)
        before, self.instructions, self.version = self.instructions, now, version
        self._tell(now - before, before - now)

    def _tell(self, struck: Iterable[bytes], restored: Iterable[bytes]) -> None:
        for follower in list(self._followers):
            follower.on_strikes(struck, restored)
