"""Docket and the model of `_lifecycle.py` are asked for the same, in any order, and have to agree after every step.

Producers and operators go through the public interface. Workers are the store's own calls, one step at a time, so that everything can come between
any two of them: a replacement between fetch and claim, a crash before the settlement, a settlement after the crash. Whatever is settled is settled twice,
as after a lost reply. For every run somebody waits for its result from the moment it is made.

On `memory://` time passes by a clock that stands still until it is moved. A server has a clock of its own, so there nothing that is due later becomes due
by itself; what ended expires on both. Some dockets are divided, so that the two keys are in two shards. `tests/_examples.py` says how to try more of it.
"""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Awaitable
from datetime import timedelta
from typing import Any, ClassVar, TypeVar, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule, run_state_machine_as_test

from docket import Docket, Execution, ExecutionState
from docket._clock import SYSTEM, to_us
from docket._keys import shard_of
from docket._redis import forget
from docket._store.records import Claimed, Delivery, Order, Outcome, Refused, Settlement
from docket._store.shard import STRIDE
from docket._worker._failures import failed_attempt
from docket.errors import ExecutionCancelled, ExecutionSuperseded, ResultUnavailable, WrongState
from docket.testing import MovableClock
from tests._examples import examples
from tests.model._lifecycle import Claim, Entry, Lifecycle, Run

T = TypeVar("T")

HOUR = timedelta(hours=1)
MINUTE_US = 60_000_000
PATIENCE = 10.0
WORKERS = ("ann~1", "ben~2")
ERRORS = {"wrong": WrongState, "superseded": ExecutionSuperseded, "gone": ResultUnavailable}

keys = st.sampled_from(["a", "b"])
values = st.integers(0, 3)
hours = st.integers(0, 2)
workers = st.sampled_from(WORKERS)
any_of = st.integers(0, 10**6)
ends = st.sampled_from(["completed", "failed", "cancelled"])


class Docketeer(RuleBasedStateMachine):
    """This has a docket and the model do the same."""

    url: ClassVar[str]
    shards: ClassVar[int]

    @initialize()
    def begin(self) -> None:
        self.is_memory = self.url.startswith("memory://")
        self.clock = MovableClock(ticking=False) if self.is_memory else SYSTEM
        self.fetched: dict[Entry, Delivery] = {}
        self.claims: list[tuple[Claim, Claimed]] = []
        self.executions: dict[Run, Execution[Any]] = {}
        self.waiting: dict[Run, asyncio.Future[Any]] = {}
        self.loop = asyncio.new_event_loop()
        name = f"model-{uuid.uuid4().hex[:8]}"
        self.own_url = f"memory://{name}" if self.is_memory else self.url
        self.docket = Docket(name, self.own_url, clock=self.clock, shards=self.shards)
        self.model = Lifecycle(lambda key: shard_of(key, self.shards), STRIDE)
        self.begun_us = to_us(self.clock.now())

        @self.docket.task
        async def task(value: int, filling: str = "") -> str: ...

        self.task = task
        self.do(self.enter())

    async def enter(self) -> None:
        await self.docket.__aenter__()
        self.store = self.docket.store
        self.readers = [shard.delivery.reader() for shard in self.store.shards]
        await self.store.delivery.ensure_group()

    def do(self, step: Awaitable[T]) -> T:
        return self.loop.run_until_complete(asyncio.wait_for(step, PATIENCE))

    # Asking for runs

    @rule(key=keys, value=values, later=hours)
    def add(self, key: str, value: int, later: int) -> None:
        execution = self.do(self.docket.add(self.task, when=self.when(later), key=key)(*self.arguments(value)))
        self.check_asked(execution, *self.model.add(key, value, self.model.now + later))

    @rule(key=keys, value=values, later=hours)
    def replace(self, key: str, value: int, later: int) -> None:
        execution = self.do(self.docket.replace(self.task, self.when(later), key)(*self.arguments(value)))
        self.check_asked(execution, *self.model.replace(key, value, self.model.now + later))

    @precondition(lambda self: self.claims)
    @rule(which=any_of, value=values, later=hours)
    def ask_for_a_successor(self, which: int, value: int, later: int) -> None:
        claim, claimed = self.claims[which % len(self.claims)]
        payload = self.docket.payloads.dumps_call(self.arguments(value), {}, self.task)
        order = Order(claim.run.key, "task", payload, self.when_us(later), within=claimed.run)
        answers = [self.do(self.store.lifecycle.schedule(order)) for _ in "12"]  # the second as after a lost reply
        assert answers[0].generation == answers[1].generation
        execution = Execution[Any](self.docket, cast("Any", self.task), self.arguments(value), {}, claim.run.key, None, 1, function_name="task")
        execution.ordered(answers[0])
        self.check_asked(execution, *self.model.succeed(claim, value, self.model.now + later))

    @rule(value=values)
    def strike_or_restore(self, value: int) -> None:
        struck = value in self.model.struck
        assert self.do((self.docket.restore if struck else self.docket.strike)("task", "value", "==", value)) is True
        self.model.struck ^= {value}

    # Changing them from outside

    @rule(key=keys)
    def cancel(self, key: str) -> None:
        self.do(self.docket.cancel(key))
        self.model.cancel(key)

    @precondition(lambda self: self.executions)
    @rule(which=any_of)
    def cancel_one(self, which: int) -> None:
        run, execution = self.some(which)
        self.do(execution.cancel())
        self.model.cancel_run(run)

    @precondition(lambda self: self.executions)
    @rule(which=any_of, later=hours)
    def reschedule(self, which: int, later: int) -> None:
        run, execution = self.some(which)
        self.check_word(self.model.reschedule(run, self.model.now + later), execution.reschedule(later * HOUR))

    @precondition(lambda self: self.executions)
    @rule(which=any_of)
    def promote(self, which: int) -> None:
        run, execution = self.some(which)
        self.check_word(self.model.promote(run), execution.promote())

    @precondition(lambda self: self.executions)
    @rule(which=any_of)
    def retry(self, which: int) -> None:
        run, execution = self.some(which)
        word, made = self.model.retry(run)
        again = self.check_word(word, execution.retry())
        if made is not None:
            assert again is not None
            self.watch(made, again)

    @precondition(lambda self: len(self.model.runs) % 3 == 2)  # now and then, for nothing is left afterwards
    @rule()
    def clear(self) -> None:
        assert self.do(self.docket.clear()) == self.model.clear()

    @precondition(lambda self: self.model.letters)
    @rule(which=any_of, discards=st.booleans())
    def deal_with_a_dead_letter(self, which: int, discards: bool) -> None:
        number = sorted(self.model.letters)[which % len(self.model.letters)]
        letter = self.do(self.letters())[number]
        if discards:
            self.do(letter.discard())
            del self.model.letters[number]
            return
        word, made = self.model.revive(number)
        again = self.check_word(word, letter.retry())
        if made is not None:
            assert again is not None
            self.watch(made, again)

    # Working

    @precondition(lambda self: self.model.road)
    @rule(worker=workers)
    def work(self, worker: str) -> None:
        """This is what most often happens: nothing comes between fetch and claim."""
        self.fetch(worker, next((entry.run.key for entry in self.model.road if not entry.worker), "a"))
        if self.fetched:
            self.claim(-1)

    @rule(worker=workers, key=keys)
    def fetch(self, worker: str, key: str) -> None:
        """It reads in the shard of that key."""
        shard = self.store.shard_of(key)
        found = self.do(shard.delivery.read(self.readers[shard.index], worker, 1, 1))
        entry = self.model.fetch(worker, shard.index)
        assert [(each.key, each.generation) for each in found] == ([] if entry is None else [(entry.run.key, entry.run.number)])
        if entry is not None:
            self.fetched[entry] = found[0]

    @precondition(lambda self: self.fetched)
    @rule(which=any_of)
    def claim(self, which: int) -> None:
        entry = [*self.fetched][which % len(self.fetched)]
        delivery = self.fetched.pop(entry)
        [answer] = self.do(self.store.shard_of(delivery.key).lifecycle.claim(entry.worker, [delivery]))
        claim = self.model.claim(entry)
        if claim is None:
            assert isinstance(answer, Refused)
            return
        assert isinstance(answer, Claimed)
        args, kwargs = self.docket.payloads.loads_call(answer.payload, answer.function, claim.run.key, claim.run.number, self.task)
        assert (args, kwargs) == (self.arguments(claim.run.value), {})
        assert (answer.run.generation, answer.run.delivery) == (claim.run.number, claim.delivery)
        assert (answer.attempt, answer.crashes) == (claim.run.attempt, claim.run.crashes)
        self.claims.append((claim, answer))

    @precondition(lambda self: self.claims)
    @rule(which=any_of, end=ends, alone=st.booleans())
    def finish(self, which: int, end: str, alone: bool) -> None:
        claim, claimed = self.claims.pop(which % len(self.claims))
        self.settle(claim, claimed, self.model.finish(claim, end, alone=alone), end, again="end" if alone else None)

    @precondition(lambda self: self.claims)
    @rule(which=any_of, end=ends, later=hours, value=st.none() | values)
    def move_on(self, which: int, end: str, later: int, value: int | None) -> None:
        claim, claimed = self.claims.pop(which % len(self.claims))
        state, following = self.model.move_on(claim, end, self.model.now + later, value)
        payload = None if value is None else self.docket.payloads.dumps_call(self.arguments(value), {}, self.task)
        self.settle(claim, claimed, state, end, again="next", when_us=self.when_us(later), payload=payload)
        if following is not None:
            made = self.do(self.docket.get_execution(following.key))
            assert made is not None
            self.watch(following, made)

    @precondition(lambda self: self.claims)
    @rule(which=any_of, later=hours, counts=st.booleans())
    def try_again(self, which: int, later: int, counts: bool) -> None:
        claim, claimed = self.claims.pop(which % len(self.claims))
        attempt = claimed.attempt + counts
        self.settle(
            claim, claimed, self.model.try_again(claim, self.model.now + later, attempt), "failed", again="retry", when_us=self.when_us(later), attempt=attempt
        )

    @precondition(lambda self: self.claims)
    @rule(which=any_of)
    def release(self, which: int) -> None:
        claim, claimed = self.claims.pop(which % len(self.claims))
        self.settle(claim, claimed, self.model.release(claim), "failed", again="release")

    @precondition(lambda self: self.fetched or self.claims)
    @rule(worker=workers)
    def crash(self, worker: str) -> None:
        """Its bodies go on: what they held is still settled later, and counts for nothing then."""

        async def take_over() -> None:
            for shard in self.store.shards:
                await shard.delivery.let_go(worker)
                while entries := await shard.delivery.pending(worker):
                    await shard.delivery.reclaim(worker, entries)
                await shard.delivery.reclaim(worker, [])

        self.do(take_over())
        self.model.crash(worker)
        self.fetched = {entry: delivery for entry, delivery in self.fetched.items() if entry.worker != worker}

    @precondition(lambda self: self.fetched)
    @rule(worker=workers)
    def give_back(self, worker: str) -> None:
        entries = [delivery for entry, delivery in self.fetched.items() if entry.worker == worker]
        for shard in self.store.shards:
            if those := [entry for entry in entries if self.store.shard_of(entry.key) is shard]:
                self.do(shard.delivery.reclaim(worker, those, own=True))
        self.model.give_back(worker)
        self.fetched = {entry: delivery for entry, delivery in self.fetched.items() if entry.worker != worker}

    work_on, ask_again, finish_too = work, ask_for_a_successor, finish  # the more often a rule stands here, the more often it is tried

    # Time

    @precondition(lambda self: self.is_memory)
    @rule(passed=st.integers(1, 2))
    def pass_time(self, passed: int) -> None:
        async def move() -> None:
            for shard in self.store.shards:
                await shard.delivery.move_due(await shard.delivery.due(self.clock.now_us()))

        cast("MovableClock", self.clock).advance(hours=passed)
        self.do(move())
        self.model.pass_time(passed)

    @rule()
    def forget(self) -> None:
        """What has an expiry expires, but for dead letters, which have one of their own."""
        self.do(self.expire())
        self.model.forget()

    # Comparing

    @invariant()
    def check(self) -> None:
        if hasattr(self, "docket"):
            self.do(self.compare())

    async def compare(self) -> None:
        model, store = self.model, self.store
        for run in [run for run in self.waiting if run.end]:
            told = {"completed": f"result of {run.number}", "failed": f"error of {run.number}"}.get(run.end, "")
            assert await self.waiting.pop(run) == (run.end, told)
        for run, result in self.waiting.items():
            assert not result.done(), f"run {run.number} has not ended, and somebody was told so"
        for key in ("a", "b"):
            run, record = model.current.get(key), await store.inspection.load(key)
            assert (run is None) == (record is None)
            if run is None or record is None:
                continue
            assert (record.generation, record.state.value, record.attempt, record.crashes) == (run.number, run.state, run.attempt, run.crashes)
            assert record.successor == (None if run.successor is None else run.successor.number)
            assert abs(record.when_us - self.begun_us - run.due * 3600 * 1_000_000) < MINUTE_US
            execution = await self.docket.get_execution(key)
            assert execution is not None
            assert execution.args == self.arguments(run.value)
        listed = {execution.key: execution.state.value async for execution in self.docket.executions()}
        assert listed == {key: run.state for key, run in model.current.items()}
        counts = await self.docket.counts()
        fetched = sum(bool(entry.worker) for entry in model.road)
        assert (counts.scheduled, counts.queued, counts.running) == (
            sum(run.state == "scheduled" for run in model.current.values()),
            len(model.road) - fetched,
            fetched,
        )
        assert {"completed": counts.completed, "failed": counts.failed, "cancelled": counts.cancelled, "retried": counts.retried} == {
            word: model.ends[word] for word in ("completed", "failed", "cancelled", "retried")
        }
        letters = await self.letters()
        assert {number: letter.args for number, letter in letters.items()} == {number: self.arguments(run.value) for number, run in model.letters.items()}

    async def heard(self, execution: Execution[Any]) -> tuple[str, str]:
        """This is what somebody hears who waits for the result of a run from its beginning on."""
        try:
            return "completed", await execution.get_result()
        except ExecutionSuperseded:
            return "superseded", ""
        except ExecutionCancelled:
            return "cancelled", ""
        except ArithmeticError as error:
            return "failed", str(error)

    def teardown(self) -> None:
        """In the end all is drained: nothing stays on the road, and no key stays that neither expires nor belongs to the docket."""
        if not hasattr(self, "docket"):
            return
        try:
            self.drain()
            self.check()
            assert not self.model.road
            assert not any(self.do(shard.backend.call("XLEN", shard.keys.stream)) for shard in self.store.shards)
            assert not self.do(self.lasting())
        finally:
            self.loop.run_until_complete(self.leave())
            self.loop.close()

    def drain(self) -> None:
        for worker in WORKERS:
            self.crash(worker)
        self.clear()
        while any(not entry.worker for entry in self.model.road):
            self.fetch(WORKERS[0], next(entry.run.key for entry in self.model.road if not entry.worker))
            self.claim(0)
        while self.claims:
            self.finish(0, "completed", alone=True)

    async def leave(self) -> None:
        for waiting in self.waiting.values():
            waiting.cancel()
        await asyncio.gather(*self.waiting.values(), return_exceptions=True)
        for reader in self.readers:
            await reader.aclose()
        await self.docket.__aexit__(None, None, None)
        if self.is_memory:
            forget(self.own_url)

    # What they share

    def when(self, later: int) -> timedelta | None:
        return later * HOUR if later else None

    def when_us(self, later: int) -> int | None:
        return to_us(self.clock.now() + later * HOUR) if later else None

    def arguments(self, value: int) -> tuple[Any, ...]:
        """Some are too large for the record, and stand beside it."""
        return (value, "x" * 100) if value % 2 else (value,)

    def some(self, which: int) -> tuple[Run, Execution[Any]]:
        """The latest ones are the most interesting."""
        return list(self.executions.items())[-1 - which % min(4, len(self.executions))]

    def watch(self, run: Run, execution: Execution[Any]) -> None:
        assert execution.generation == run.number
        self.executions[run] = execution
        self.waiting[run] = self.loop.create_task(self.heard(execution))
        self.do(asyncio.sleep(0))

    def check_asked(self, execution: Execution[Any], disposition: str, run: Run | None) -> None:
        assert execution.disposition.value == disposition
        if run is not None:
            assert execution.generation == run.number
            if run not in self.executions:
                self.watch(run, execution)

    def check_word(self, word: str, change: Awaitable[T]) -> T | None:
        if word == "done":
            return self.do(change)
        with pytest.raises(ERRORS[word]):
            self.do(change)
        return None

    def settle(self, claim: Claim, claimed: Claimed, state: str | None, end: str, **settlement: Any) -> None:
        run, payloads, error = claim.run, self.docket.payloads, ArithmeticError(f"error of {claim.run.number}")
        outcome = Outcome(ExecutionState(end))
        failure = b""
        if end == "completed":
            outcome.value = payloads.dumps_result(f"result of {run.number}", self.task, limited=True)
        elif end == "failed":
            outcome.error, outcome.value = repr(error), payloads.dumps_exception(error, None, limited=True)
            failure = failed_attempt(claimed, error, worker="ann", ended_us=self.begun_us, reason="failed")
        asked = Settlement(claimed.run, claimed.message_id, outcome, failure=failure, wide=True, **settlement)
        for _ in "12":  # the second as after a lost reply
            answer = self.do(self.store.lifecycle.settle(asked))
            assert (None if answer is None else answer.value) == state

    async def letters(self) -> dict[int, Any]:
        return {int(letter.id): letter async for letter in self.docket.dead_letters()}

    # What nobody but a test looks at

    async def expiries(self) -> dict[str, int]:
        """Every key of the docket, and its expiry; -1: none."""
        if self.is_memory:
            database = cast("Any", self.store.backend)._database
            return {key.decode(): await database.ttl(key) for key in await database.keys("*")}
        prefixes = {self.docket.prefix, *(shard.keys.prefix for shard in self.store.shards)}
        found = [key for prefix in prefixes for key in await self.store.backend.call("KEYS", f"{prefix}*")]
        return {key.decode(): await self.store.backend.call("PTTL", key) for key in found}

    async def expire(self) -> None:
        for key, left in (await self.expiries()).items():
            if left >= 0 and not key.startswith(tuple(shard.keys.dead for shard in self.store.shards)):
                await self.store.backend.call("DEL", key)

    async def lasting(self) -> list[str]:
        own = {keys.meta for keys in (self.store.keys, *self.store.keys.shards)} | {self.store.keys.strikes, self.store.keys.workers}
        own |= {key for keys in self.store.keys.shards for key in (keys.leases, keys.queue, keys.stream, keys.waiting, keys.away)}
        return [key for key, left in (await self.expiries()).items() if left < 0 and key not in own]


@pytest.mark.timeout(0)
@pytest.mark.parametrize("shards", [1, 4], ids=["undivided", "divided"])
def test_docket_does_what_the_model_does(backend: str, url: str, shards: int):
    class Machine(Docketeer):
        pass

    Machine.url, Machine.shards = url, shards
    usual = 100 if backend == "memory" else 25
    run_state_machine_as_test(Machine, settings=examples(usual if shards == 1 else usual // 4, steps=50))
