"""The parts of a docket that is divided: each finds the shard of a key, or asks all shards and puts together what they say.

They are called as the parts of a single shard are.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from docket._keys import shard_of
from docket._store.foreign import ForeignLimits
from docket._store.glance import Glance
from docket._store.inspection import Inspection
from docket._store.letters import ROOM
from docket._store.listing import place_of_entry
from docket._store.records import Admission, Applicant, Counts, Requirement, RunId
from docket._store.workers import WorkersStore
from docket.errors import DocketError, InvalidOption, ServerError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Coroutine, Iterable, Iterator, Sequence

    from docket._keys import Keys
    from docket._redis.backend import Backend
    from docket._store.listing import Parked
    from docket._store.progress import ProgressStore
    from docket._store.records import (
        Change,
        Changed,
        Delivery,
        Failure,
        Letter,
        Order,
        Ordered,
        Outcome,
        Revival,
        RunRecord,
        Settlement,
        Underway,
    )
    from docket._store.shard import Shard
    from docket._store.strikes import StrikesStore
    from docket.states import ExecutionState

__all__ = [
    "ShardStrikes",
    "ShardedClearing",
    "ShardedDelivery",
    "ShardedGlance",
    "ShardedInspection",
    "ShardedLetters",
    "ShardedLifecycle",
    "ShardedLimits",
    "ShardedListing",
    "ShardedProgress",
    "ShardedWorkers",
    "Shards",
    "take_own_channels",
]

T = TypeVar("T")
K = TypeVar("K")

logger = logging.getLogger("docket.redis")

UNSETTLED_PAUSE = 0.05
"""Seconds between looks at a run that was let in before it was set aside."""

UNSETTLED_LOOKS = 4


class Shards:
    """These are the shards of one docket."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.all = shards

    def __len__(self) -> int:
        return len(self.all)

    def __iter__(self) -> Iterator[Shard]:
        return iter(self.all)

    def index(self, key: str) -> int:
        """This is the number of the shard that a key, or a limit's identity, belongs in."""
        return shard_of(key, len(self.all))

    def of(self, key: str) -> Shard:
        """This is the shard that a key, or a limit's identity, belongs in."""
        return self.all[shard_of(key, len(self.all))]

    async def each(self, ask: Callable[[Shard], Awaitable[T]]) -> list[T]:
        """This asks all shards at once. Where one fails, the others are asked all the same; then the first failure is raised."""
        answers = await asyncio.gather(*(ask(shard) for shard in self.all), return_exceptions=True)
        found: list[T] = []
        for answer in answers:
            if isinstance(answer, BaseException):
                raise answer
            found.append(answer)
        return found

    async def spread(self, items: Sequence[K], key_of: Callable[[K], str], ask: Callable[[Shard, Sequence[K]], Awaitable[Sequence[T]]]) -> list[T]:
        """This asks of each item the shard of its key, all shards at once, and gives the answers in the order of the items."""
        places: dict[int, list[int]] = {}
        for place, item in enumerate(items):
            places.setdefault(self.index(key_of(item)), []).append(place)
        replies = await asyncio.gather(*(ask(self.all[index], [items[place] for place in those]) for index, those in places.items()))
        found: dict[int, T] = {}
        for those, answers in zip(places.values(), replies, strict=True):
            found.update(zip(those, answers, strict=True))
        return [found[place] for place in range(len(items))]


async def take_own_channels(shards: Iterable[tuple[Keys, Backend]]) -> bool:
    """This says whether the servers of all shards know sharded pub/sub, and let us use it."""
    try:
        await asyncio.gather(*(backend.call("SPUBLISH", keys.silence, "") for keys, backend in shards))
    except ServerError as exc:
        logger.debug("What is told of runs goes to all nodes of a cluster, because this cannot be done: %s", exc)
        return False
    return True


class ShardStrikes:
    """This is what is struck, as one shard knows it: by the version in its `meta`."""

    def __init__(self, backend: Backend, keys: Keys, strikes: StrikesStore) -> None:
        self._backend = backend
        self._keys = keys
        self._strikes = strikes

    async def catch_up(self, version: int, wanted: Callable[[], bool] | None = None) -> None:
        """This returns once everything is known that was struck when an answer of this shard gave this version.

        A shard whose version is not the docket's (whoever struck something died before it was handed on) is brought up to date: else every claim in it would read.
        """
        await self._strikes.catch_up(version, wanted)
        known = self._strikes.version
        if known == version:
            return
        try:
            await self._backend.script("hand", [self._keys.meta], [self._keys.state(""), known, version])
        except DocketError as exc:
            logger.debug("A shard could not be told which strikes stand, and is told after the next claim: %s", exc)


class ShardedLifecycle:
    """This moves runs from state to state."""

    def __init__(self, shards: Shards, limits: ShardedLimits) -> None:
        self._shards = shards
        self._limits = limits
        for shard in shards:
            shard.lifecycle.on_left = limits.left

    async def schedule(self, order: Order) -> Ordered:
        return await self._shards.of(order.key).lifecycle.schedule(order)

    async def schedule_many(self, orders: Sequence[Order]) -> list[Ordered | Exception]:
        return await self._shards.spread(orders, lambda order: order.key, lambda shard, those: shard.lifecycle.schedule_many(those))

    async def settle(self, settlement: Settlement) -> ExecutionState | None:
        """This ends a claim. A place under a limit of another shard is given up after that: before, one too many could run."""
        run, limit = settlement.run, settlement.limit
        shard = self._shards.of(run.key)
        if not limit or self._shards.index(limit) == shard.index:
            return await shard.lifecycle.settle(settlement)
        stands = await shard.lifecycle.settle(replace(settlement, limit=""))
        await self._limits.left(limit, run.key, run.generation, run.delivery)
        return stands

    async def suspect(self, run: RunId, *, alone: bool = True) -> bool:
        return await self._shards.of(run.key).lifecycle.suspect(run, alone=alone)

    async def cancel(self, key: str, generation: int | None = None) -> tuple[ExecutionState | None, int]:
        return await self._shards.of(key).lifecycle.cancel(key, generation)

    async def reschedule(self, change: Change) -> Changed:
        return await self._shards.of(change.key).lifecycle.reschedule(change)

    async def retry(self, change: Change) -> Changed:
        return await self._shards.of(change.key).lifecycle.retry(change)

    async def revive(self, revival: Revival) -> Changed:
        return await self._shards.of(revival.key).lifecycle.revive(revival)


class ShardedDelivery:
    """This asks of all shards what concerns a worker as a whole. Reading, moving and taking back is done shard by shard."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        for shard in shards:
            shard.delivery.function_of = lambda key: shards.of(key).delivery.function(key)

    async def ensure_group(self) -> None:
        await self._shards.each(lambda shard: shard.delivery.ensure_group())

    async def renew(self, instance: str, lease_us: int, held: Sequence[RunId], *, first: bool = False) -> list[str] | None:
        """This keeps an instance's lease in every shard; None when it is lost in one of them: then all of it is."""
        places: list[list[int]] = [[] for _ in self._shards]
        for place, run in enumerate(held):
            places[self._shards.index(run.key)].append(place)
        answers = await self._shards.each(lambda shard: shard.delivery.renew(instance, lease_us, [held[place] for place in places[shard.index]], first=first))
        words = [""] * len(held)
        for those, answer in zip(places, answers, strict=True):
            if answer is None:
                return None
            for place, word in zip(those, answer, strict=True):
                words[place] = word
        return words

    async def move_due(self, candidates: Sequence[str]) -> tuple[int, int | None, int]:
        replies = await self._shards.each(lambda shard: shard.delivery.move_due([key for key in candidates if self._shards.index(key) == shard.index]))
        latest = max(now for _, _, now in replies)
        return (
            sum(moved for moved, _, _ in replies),
            min((max(0, now + wait - latest) for _, wait, now in replies if wait is not None), default=None),
            latest,
        )

    async def depth(self) -> tuple[int, int]:
        depths = await self._shards.each(lambda shard: shard.delivery.depth())
        return sum(ready for ready, _ in depths), sum(later for _, later in depths)

    async def contended(self) -> int:
        return sum(await self._shards.each(lambda shard: shard.delivery.contended()))

    async def work_for(self, tasks: Container[str]) -> tuple[bool, set[str]]:
        found = await self._shards.each(lambda shard: shard.delivery.work_for(tasks))
        return any(left for left, _ in found), {stranger for _, strangers in found for stranger in strangers}


class ShardedLetters:
    """This reads and removes dead letters."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def newest(self, before: tuple[int, str] | None, count: int) -> list[tuple[int, str]]:
        pages = await self._shards.each(lambda shard: shard.letters.newest(before, count))
        return sorted((each for page in pages for each in page), key=lambda each: (-each[0], each[1]))[:count]

    async def read(self, generations: Sequence[str], *, task: str | None = None, key_prefix: str = "", room: int = ROOM) -> list[Letter | None]:
        """This asks every shard: a number tells where its run was scheduled, but the docket may have been moved since. Each shard has that much room."""
        pages = await self._shards.each(lambda shard: shard.letters.read(generations, task=task, key_prefix=key_prefix, room=room))
        return [next((letter for letter in found if letter is not None), None) for found in zip(*pages, strict=True)]

    async def whole(self, generation: str) -> Letter | None:
        return next((letter for letter in await self._shards.each(lambda shard: shard.letters.whole(generation)) if letter is not None), None)

    async def discard(self, generations: Sequence[str]) -> int:
        return sum(await self._shards.each(lambda shard: shard.letters.discard(generations)))


class ShardedInspection(Inspection):
    """This reads the records of runs."""

    def __init__(self, shards: Shards, home: Backend, keys: Keys) -> None:
        super().__init__(home, keys)
        self._shards = shards

    async def load(self, key: str) -> RunRecord | None:
        return await self._shards.of(key).inspection.load(key)

    async def look(self, key: str, channel: str, mark: int) -> RunRecord | None:
        return await self._shards.of(key).inspection.look(key, channel, mark)

    async def outcome(self, key: str, generation: int) -> Outcome | None:
        return await self._shards.of(key).inspection.outcome(key, generation)

    async def counts(self, now_us: int) -> Counts:
        """This counts runs, of all shards together."""
        found = await self._shards.each(lambda shard: shard.inspection.counts(now_us))
        return Counts(**{name: sum(getattr(counts, name) for counts in found) for name in Counts.__slots__})


class ShardedListing:
    """This finds runs and reads many at once. What has an order in each shard has it here, too; what has none comes shard by shard."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    async def scheduled(self, after: tuple[int, str] | None, count: int) -> list[tuple[int, str]]:
        pages = await self._shards.each(lambda shard: shard.listing.scheduled(after, count))
        return sorted((each for page in pages for each in page), key=lambda each: (each[0], each[1].encode()))[:count]

    async def entries(self, after: str | None, count: int) -> list[Delivery]:
        """This lists the streams, as one: entries are named by their time and, behind it, a number that tells which shard's they are."""
        return await self._entries(after, count, fetched=False)

    async def fetched(self, after: str | None, count: int) -> list[Delivery]:
        return await self._entries(after, count, fetched=True)

    async def _entries(self, after: str | None, count: int, *, fetched: bool) -> list[Delivery]:
        shards = len(self._shards)
        place = None if after is None else place_of_entry(after.encode())

        async def of(shard: Shard) -> list[Delivery]:
            behind = None if place is None else _entry_before(place[0], (place[1] - shard.index) // shards)
            look = shard.listing.fetched if fetched else shard.listing.entries
            return [_in_all(entry, shard.index, shards) for entry in await look(behind, count)]

        pages = await self._shards.each(of)
        return list(heapq.merge(*pages, key=lambda entry: place_of_entry(entry.message_id)))[:count]

    async def parked(self, after: tuple[str, int] | None, count: int) -> list[Parked]:
        pages = await self._shards.each(lambda shard: shard.listing.parked(after, count))
        return sorted(each for page in pages for each in page)[:count]

    async def scan(self, cursor: str, count: int, prefix: str) -> tuple[list[str], str | None]:
        """This scans for the runs of one shard after another; a cursor names the shard and the server's own cursor."""
        named = re.fullmatch(r"(?:([0-9]{1,4})\.)?(.+)", cursor, re.DOTALL)
        index = int(named[1] or 0) if named else len(self._shards)
        if named is None or index >= len(self._shards):
            raise InvalidOption(f"{cursor!r} is no cursor of this docket")
        keys, onward = await self._shards.all[index].listing.scan(named[2], count, prefix)
        if onward is None:
            index, onward = index + 1, "0"
        return keys, None if index == len(self._shards) else f"{index}.{onward}"

    async def select(
        self, candidates: Sequence[tuple[str, int | None]], states: Iterable[ExecutionState] | None = None, task: str | None = None
    ) -> list[RunRecord | None]:
        states = None if states is None else tuple(states)
        return await self._shards.spread(candidates, lambda each: each[0], lambda shard, those: shard.listing.select(those, states, task))


def _entry_before(milliseconds: int, sequence: int) -> str | None:
    """The name of an entry, or of the last there can be before that millisecond; None before the first of all."""
    if sequence >= 0:
        return f"{milliseconds}-{sequence}"
    return f"{milliseconds - 1}-{(1 << 64) - 1}" if milliseconds else None


def _in_all(entry: Delivery, index: int, shards: int) -> Delivery:
    milliseconds, sequence = place_of_entry(entry.message_id)
    return replace(entry, message_id=b"%d-%d" % (milliseconds, sequence * shards + index))


class ShardedGlance(Glance):
    """This takes a look at all shards."""

    def __init__(self, shards: Shards, home: Backend, keys: Keys) -> None:
        super().__init__(home, keys, shards.all[0].listing, shards.all[0].letters)  # what concerns workers is asked at home, and nothing else
        self._shards = shards

    async def underway(self, count: int) -> list[Underway]:
        pages = await self._shards.each(lambda shard: shard.glance.underway(count))
        return sorted((run for page in pages for run in page), key=lambda run: (run.started_us, run.key))[:count]

    async def ready_since_us(self) -> int | None:
        return _least(await self._shards.each(lambda shard: shard.glance.ready_since_us()))

    async def next_due_us(self) -> int | None:
        return _least(await self._shards.each(lambda shard: shard.glance.next_due_us()))

    async def held(self) -> dict[str, int]:
        total: dict[str, int] = {}
        for held in await self._shards.each(lambda shard: shard.glance.held()):
            for instance, runs in held.items():
                total[instance] = total.get(instance, 0) + runs
        return total

    async def failures(self, count: int) -> list[Failure]:
        pages = await self._shards.each(lambda shard: shard.glance.failures(count))
        return sorted((failure for page in pages for failure in page), key=lambda failure: -failure.when_us)[:count]


def _least(values: Iterable[int | None]) -> int | None:
    return min((value for value in values if value is not None), default=None)


class ShardedClearing:
    """This cancels everything that has not begun."""

    def __init__(self, shards: Shards, lifecycle: ShardedLifecycle) -> None:
        self._shards = shards
        self._lifecycle = lifecycle
        for shard in shards:
            shard.clearing.is_ours = lambda key, index=shard.index: shards.index(key) == index

    async def clear(self) -> int:
        """This cancels what has not begun, in all shards, and answers how many. What waits for a limit of another shard is cancelled one by one."""
        newest = await self._shards.each(lambda shard: shard.clearing.newest())
        total = 0
        while True:
            found = sum(await self._shards.each(lambda shard: shard.clearing.clear(newest[shard.index])))
            for shard in self._shards:
                async for key, generation in shard.clearing.foreign():
                    if generation <= newest[self._shards.index(key)]:
                        state, _ = await self._lifecycle.cancel(key, generation)
                        found += state is not None
            total += found
            if not found:
                return total


class ShardedProgress:
    """This records how far a run has come."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards

    def _of(self, key: str) -> ProgressStore:
        return self._shards.of(key).progress

    async def update(self, key: str, run: RunId | None = None, **changes: Any) -> Any:
        return await self._of(key).update(key, run, **changes)

    async def land(self, key: str, run: RunId | None, number: int, **changes: Any) -> Any:
        return await self._of(key).land(key, run, number, **changes)


class ShardedWorkers(WorkersStore):
    """This keeps the list of live workers, at home, and their leases, which are the shards'."""

    def __init__(self, home: Backend, keys: Keys, shards: Shards) -> None:
        super().__init__(home, keys)
        self._shards = shards

    async def depart(self, instance: str) -> None:
        """This takes an instance off every list. Safe to repeat."""
        await asyncio.gather(super().depart(instance), self._shards.each(lambda shard: shard.delivery.let_go(instance)))


class ShardedLimits:
    """This holds runs back and lets them through. A limit lives in the shard of its identity, whatever the shards of the runs are."""

    def __init__(self, shards: Shards) -> None:
        self._shards = shards
        self._foreign = [ForeignLimits(shard.backend, shard.keys) for shard in shards]

    def services(self) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
        """This names what has to run for calls to be answered."""
        return tuple(service for foreign in self._foreign for service in foreign.services())

    async def admit(self, applicant: Applicant) -> Admission:
        """This lets a claimed run through all its limits, or sets it aside.

        Limits of other shards are asked first, those that give places last of them; the run's own shard last of all, where one script does the rest.
        What was taken is given up again when another limit says no, so that nothing is held while the run waits.
        """
        own = self._shards.index(applicant.run.key)
        groups: dict[int, list[Requirement]] = {}
        for requirement in applicant.requirements:
            groups.setdefault(self._shards.index(requirement.identity), []).append(requirement)
        local = groups.pop(own, [])
        if not groups:
            return await self._shards.all[own].limits.admit(applicant)
        quiet, first = "", ""
        if any(requirement.kind == "debounce" for group in groups.values() for requirement in group):
            quiet, first = await self._foreign[own].flags(applicant.run.key)
        marks = ""
        for index in sorted(groups, key=lambda index: any(requirement.kind == "concurrency" for requirement in groups[index])):
            word, detail, news = await self._foreign[index].ask(replace(applicant, requirements=tuple(groups[index])), quiet, first)
            marks += f" {news}"
            if word != "admitted":
                await self._forgo(applicant.run, {other: group for other, group in groups.items() if other != index})
                return await self._refused(applicant, own, index, groups[index], word, detail, marks)
        if marks.strip():  # before it may be set aside, for that is remembered of it while it waits
            await self._foreign[own].set_aside(applicant, "admitted", "", marks)
        if local:
            admission = await self._shards.all[own].limits.admit(replace(applicant, requirements=tuple(local)))
            if admission.word != "admitted":
                await self._forgo(applicant.run, groups)
                return admission
        return Admission("admitted")

    async def _refused(self, applicant: Applicant, own: int, index: int, group: Sequence[Requirement], word: str, detail: str, marks: str) -> Admission:
        if word == "dropped":
            return Admission(word, detail)
        run = applicant.run
        answer = await self._foreign[own].set_aside(applicant, word, detail, marks)
        if answer != "aside":
            await self._forgo(replace(run, delivery=0), {index: group})
            return Admission(answer)
        if word == "parked" and not await self._foreign[index].knows(detail, run.key, run.generation):  # it was let in before it was set aside
            await self._foreign[own].enter(run.key, run.generation, detail)
        return Admission(word, detail if word == "later" else "")

    async def _forgo(self, run: RunId, groups: dict[int, Any]) -> None:
        await asyncio.gather(*(self._foreign[index].forgo(run, group) for index, group in groups.items()))

    async def left(self, identity: str, key: str, generation: int, delivery: int = 0) -> None:
        """This gives up what a run has before a limit: the place of a delivery, or (0) its turn in line and a place kept for it.

        Should that not be possible, it lapses with the lease.
        """
        index = self._shards.index(identity)
        try:
            await self._foreign[self._shards.index(key)].back(key)
            await self._foreign[index].forgo(RunId(key, generation, delivery), [Requirement("concurrency", identity, "")])
        except DocketError as exc:
            logger.warning("The place of %s under %r could not be given up, and lapses: %s", key, identity, exc)

    def is_foreign(self, entry: Delivery, shard: Shard) -> bool:
        """This says whether an entry of a shard's stream tells that a run of another shard was let in."""
        return self._shards.index(entry.key) != shard.index

    def is_elsewhere(self, identity: str, shard: Shard) -> bool:
        """This says whether a limit is in another shard."""
        return self._shards.index(identity) != shard.index

    async def forward_all(self, shard: Shard, entries: Sequence[Delivery]) -> list[Delivery]:
        """This does so with those of a shard's entries that tell of other shards' runs, and gives back the rest."""
        ours = [entry for entry in entries if not self.is_foreign(entry, shard)]
        if len(ours) < len(entries):
            await asyncio.gather(*(self.forward(shard, entry) for entry in entries if self.is_foreign(entry, shard)))
        return ours

    async def forward(self, shard: Shard, entry: Delivery) -> None:
        """This takes word that a run of another shard was let in to that shard. Safe to repeat."""
        own = self._foreign[self._shards.index(entry.key)]
        answer = await own.enter(entry.key, entry.generation, entry.limit)
        for _ in range(UNSETTLED_LOOKS):
            if answer != "running":
                break
            await asyncio.sleep(UNSETTLED_PAUSE)
            answer = await own.enter(entry.key, entry.generation, entry.limit)
        if answer == "gone":
            await self.left(entry.limit, entry.key, entry.generation)
        await self._foreign[shard.index].done_with(entry)

    def holder(self, identity: str, run: RunId) -> int | str:
        """This is the name under which a run holds a place: where the limit is in another shard, that of this delivery of it. See `ask.lua`."""
        return run.generation if self._shards.index(identity) == self._shards.index(run.key) else f"{run.generation}.{run.delivery}"

    async def hold(self, places: Sequence[tuple[str, int | str]], lease_us: int) -> None:
        """This keeps places that running tasks hold: pairs of a concurrency limit's identity and a holder."""
        await self._shards.each(lambda shard: shard.limits.hold([place for place in places if self._shards.index(place[0]) == shard.index], lease_us))

    async def sweep_away(self, shard: Shard, before_us: int, now_us: int) -> int:
        """This looks after runs of a shard that wait for limits of others, and that nobody has looked at since that moment. It answers how many it woke.

        One that stands in no line, because word was lost or the limit's shard has lost its data, goes to a worker, and asks again.
        """
        woken = 0
        for key, generation, identity in await self._foreign[shard.index].away(before_us):
            if await self._foreign[self._shards.index(identity)].knows(identity, key, generation):
                await self._foreign[shard.index].looked_at(key, now_us)
            else:
                woken += await self._foreign[shard.index].enter(key, generation, identity) == "entered"
        return woken
