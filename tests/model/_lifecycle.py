"""The life of keys and runs, in plain Python: what docket promises, without how it is done.

Read it in this order. A `Run` is one generation of a key. `Lifecycle` is a docket: `current` has the run that a key's record tells of, live or ended;
`road` has the entries of ready work, the oldest first, those that lead nowhere any more among them; `letters` has what failed for good. A docket may be
divided: each shard has some of the keys, numbers of its own, and a road of its own (one entry is before another only within a shard). Then

1. asking for runs: `add`, `replace`, and `succeed`, which is `add` from inside the run of that key;
2. changing them from outside: `cancel`, `cancel_run`, `reschedule`, `promote`, `retry`, `clear`, `revive` (a dead letter runs again);
3. working: `fetch`, `claim`, and then one of the endings: `finish`, `try_again`, `move_on`, `release`; a worker that dies: `crash`;
4. time: `pass_time` has what is due become ready, `forget` has what ended expire.

Every method gives what docket answers. Nothing in here knows of Redis, of scripts or of asyncio. `test_lifecycle.py` has docket do the same, and compares.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

__all__ = ["Claim", "Entry", "Lifecycle", "Run"]

NOW = 0
LIVE = ("scheduled", "queued", "running")


@dataclass(eq=False)
class Run:
    """This is one run: one generation of a key."""

    number: int
    key: str
    value: int
    """What it is called with."""
    due: int
    state: str = "scheduled"
    attempt: int = 1
    delivery: int = 0
    crashes: int = 0
    is_to_stop: bool = False
    """It was cancelled while it ran; nothing follows it any more."""
    successor: Run | None = None
    end: str = ""
    """How it ended for whoever waits for it: completed, failed, cancelled, or superseded where another took its place; empty while it has not."""

    @property
    def is_live(self) -> bool:
        return self.state in LIVE


@dataclass(eq=False)
class Entry:
    """This is an entry of ready work, and who has fetched it."""

    run: Run
    worker: str = ""
    is_claimed: bool = False


@dataclass(frozen=True)
class Claim:
    """This is what a worker holds: it counts for as long as nobody else has claimed the run since."""

    entry: Entry
    run: Run
    delivery: int


@dataclass
class Lifecycle:
    """This is a docket."""

    shard_of: Callable[[str], int] = lambda key: 0
    """Which shard a key is in."""
    stride: int = 0
    """How far apart the numbers of the shards begin."""
    now: int = NOW
    current: dict[str, Run] = field(default_factory=dict[str, Run])
    road: list[Entry] = field(default_factory=list[Entry])
    letters: dict[int, Run] = field(default_factory=dict[int, Run])
    struck: set[int] = field(default_factory=set[int])
    ends: Counter[str] = field(default_factory=Counter[str])
    """How many runs completed, failed, were cancelled and were tried again."""
    runs: list[Run] = field(default_factory=list[Run])

    # 1. Asking for runs

    def add(self, key: str, value: int, due: int) -> tuple[str, Run | None]:
        """This makes a run where none is live, and changes nothing where one is."""
        return ("struck", None) if value in self.struck else self._added(key, value, due)

    def replace(self, key: str, value: int, due: int) -> tuple[str, Run | None]:
        """This puts a run in the place of whatever is live. That one's body may go on, and whatever it says does not count."""
        if value in self.struck:
            return "struck", None
        standing = self.current.get(key)
        if standing is not None and standing.is_live:
            self._drop_successor(standing)
            standing.state, standing.end = "replaced", "superseded"
        return "scheduled", self._placed(self._made(key, value, due))

    def succeed(self, claim: Claim, value: int, due: int) -> tuple[str, Run]:
        """This is `add` from inside a run, with its own key: the successor waits for the end of the run, and there is one at most."""
        if not self._counts(claim):
            return self._added(claim.run.key, value, due)
        if claim.run.successor is not None:
            return "already_scheduled", claim.run.successor
        claim.run.successor = self._made(claim.run.key, value, due)
        return "scheduled", claim.run.successor

    # 2. Changing them from outside

    def cancel(self, key: str) -> None:
        """This ends what has not begun, and tells what runs to stop. Either way nothing follows."""
        run = self.current.get(key)
        if run is None or not run.is_live:
            return
        self._drop_successor(run)
        if run.state == "running":
            run.is_to_stop = True
        else:
            self._ended(run, "cancelled")

    def cancel_run(self, run: Run) -> None:
        """This cancels that very run, also where it is the successor that another asked for; one that is not live is left as it is."""
        standing = self.current.get(run.key)
        if standing is run:
            self.cancel(run.key)
        elif standing is not None and standing.successor is run:
            standing.successor = None
            self._ended(run, "cancelled")

    def reschedule(self, run: Run, due: int) -> str:
        """This moves a run that has not begun. It stays the same run, and whoever waits for it goes on waiting."""
        standing = self.current.get(run.key)
        if standing is None:
            return "gone"
        if standing.successor is run:
            run.due = due
        elif standing is not run:
            return "superseded"
        elif run.state not in {"scheduled", "queued"}:
            return "wrong"
        elif run.state == "scheduled" or due > self.now:
            run.due = due
            self._placed(run)
        return "done"

    def promote(self, run: Run) -> str:
        """This has a run that has not begun run now; one that runs is left as it is."""
        standing = self.current.get(run.key)
        if standing is run and run.state == "running":
            return "done"
        return self.reschedule(run, self.now)

    def retry(self, run: Run) -> tuple[str, Run | None]:
        """This makes a new run with the arguments of one that failed or was cancelled. Its dead letter goes."""
        standing = self.current.get(run.key)
        if standing is None:
            return "gone", None
        if standing is not run:
            return "superseded", None
        if run.state not in {"failed", "cancelled"}:
            return "wrong", None
        self.letters.pop(run.number, None)
        return "done", self._placed(self._made(run.key, run.value, self.now))

    def clear(self) -> int:
        """This cancels all that has not begun, and takes every entry off the road that no worker has fetched, unless its run runs."""
        waiting = [run for run in self.current.values() if run.state in {"scheduled", "queued"}]
        for run in waiting:
            self._ended(run, "cancelled")
        self.road = [entry for entry in self.road if entry.worker or entry.run.state == "running"]
        return len(waiting)

    def revive(self, number: int) -> tuple[str, Run | None]:
        """This runs a dead letter again, where its key is free; then the letter is gone."""
        letter = self.letters[number]
        standing = self.current.get(letter.key)
        if letter.value in self.struck or (standing is not None and standing.is_live):
            return "wrong", None
        del self.letters[number]
        return "done", self._placed(self._made(letter.key, letter.value, self.now))

    # 3. Working

    def fetch(self, worker: str, shard: int = 0) -> Entry | None:
        """This gives a worker the oldest entry of a shard that nobody has."""
        entry = next((entry for entry in self.road if not entry.worker and self.shard_of(entry.run.key) == shard), None)
        if entry is not None:
            entry.worker = worker
        return entry

    def claim(self, entry: Entry) -> Claim | None:
        """This has a run begin, unless it is not for this entry to begin it: it is not ready, has another's place, has ended or runs already."""
        run = entry.run
        if self.current.get(run.key) is not run or run.state != "queued":
            self.road.remove(entry)
            return None
        run.state, run.delivery, entry.is_claimed = "running", run.delivery + 1, True
        return Claim(entry, run, run.delivery)

    def finish(self, claim: Claim, end: str, *, alone: bool = False) -> str | None:
        """This ends a run. The successor that it asked for becomes live in the same step, unless the run was told to stop, or ends `alone`."""
        self._leave_the_road(claim.entry)
        if not self._counts(claim):
            return self._too_late(claim)
        run, successor = claim.run, claim.run.successor
        if end == "failed":
            self.letters[run.number] = run
        follows = successor is not None and not alone and not run.is_to_stop
        if not follows:
            self._drop_successor(run)
        self._ended(run, end)
        return self._placed(successor).state if follows and successor is not None else end

    def move_on(self, claim: Claim, end: str, due: int, value: int | None = None) -> tuple[str | None, Run | None]:
        """This ends a link of a chain; the next one becomes live in the same step: the successor that was asked for, or a new run like this one."""
        run = claim.run
        if not self._counts(claim) or run.is_to_stop or run.successor is not None:
            return self.finish(claim, end), None
        run.successor = self._made(run.key, run.value if value is None else value, due)
        return self.finish(claim, end), run.successor

    def try_again(self, claim: Claim, due: int, attempt: int) -> str | None:
        """This has the same run come again: a retry, with a higher attempt, or a snooze, with the same. One that was told to stop does not."""
        return self._again(claim, due, attempt, "retried")

    def release(self, claim: Claim) -> str | None:
        """This hands a run back as though it had not been claimed: the same attempt, and what its body still says does not count."""
        state = self._again(claim, self.now, claim.run.attempt, None)
        if state == "queued":
            claim.run.delivery += 1
        return state

    def crash(self, worker: str) -> None:
        """This has a worker die: what it had is ready again, and what it ran counts a crash. A run that was told to stop ends there."""
        for entry in [entry for entry in self.road if entry.worker == worker]:
            self._leave_the_road(entry)
            run = entry.run
            if self.current.get(run.key) is not run:
                continue
            if run.state == "running" and entry.is_claimed:
                self._drop_successor(run)
                if run.is_to_stop:
                    self._ended(run, "cancelled")
                    continue
                run.state, run.delivery, run.crashes = "queued", run.delivery + 1, run.crashes + 1
            if run.state == "queued":
                self.road.append(Entry(run))

    def give_back(self, worker: str) -> None:
        """This has a worker leave that has fetched entries and not claimed them."""
        for entry in [entry for entry in self.road if entry.worker == worker and not entry.is_claimed]:
            self._leave_the_road(entry)
            if self.current.get(entry.run.key) is entry.run and entry.run.state == "queued":
                self.road.append(Entry(entry.run))

    # 4. Time

    def pass_time(self, hours: int) -> None:
        """This has what is due by then become ready, the earliest first."""
        self.now += hours
        waiting = [run for run in self.current.values() if run.state == "scheduled" and run.due <= self.now]
        for run in sorted(waiting, key=lambda run: (run.due, run.key)):
            self._placed(run)

    def forget(self) -> None:
        """This has the records of what ended expire."""
        self.current = {key: run for key, run in self.current.items() if run.is_live}

    # What they share

    def _added(self, key: str, value: int, due: int) -> tuple[str, Run]:
        standing = self.current.get(key)
        if standing is not None and standing.is_live:
            return "already_scheduled", standing
        return "scheduled", self._placed(self._made(key, value, due))

    def _made(self, key: str, value: int, due: int) -> Run:
        shard = self.shard_of(key)
        run = Run(shard * self.stride + sum(self.shard_of(other.key) == shard for other in self.runs) + 1, key, value, due)
        self.runs.append(run)
        return run

    def _placed(self, run: Run) -> Run:
        self.current[run.key] = run
        run.state = "scheduled" if run.due > self.now else "queued"
        if run.state == "queued":
            self.road.append(Entry(run))
        return run

    def _counts(self, claim: Claim) -> bool:
        run = claim.run
        return self.current.get(run.key) is run and run.state == "running" and run.delivery == claim.delivery

    def _too_late(self, claim: Claim) -> str | None:
        """What a worker is told whose word does not count: nothing, or how the run ended where that was its doing (cancelled, and its worker taken for dead)."""
        run = claim.run
        is_its_own_end = self.current.get(run.key) is run and not run.is_live and run.delivery == claim.delivery
        return run.state if is_its_own_end else None

    def _leave_the_road(self, entry: Entry) -> None:
        if entry in self.road:
            self.road.remove(entry)

    def _ended(self, run: Run, end: str) -> None:
        run.state = run.end = end
        self.ends[end] += 1

    def _drop_successor(self, run: Run) -> None:
        if run.successor is not None:
            run.successor.state = run.successor.end = "superseded"
            run.successor = None

    def _again(self, claim: Claim, due: int, attempt: int, counted: str | None) -> str | None:
        self._leave_the_road(claim.entry)
        if not self._counts(claim):
            return self._too_late(claim)
        run = claim.run
        self._drop_successor(run)
        if run.is_to_stop:
            self._ended(run, "cancelled")
            return "cancelled"
        run.due, run.attempt = due if counted else run.due, attempt
        run.state = "scheduled" if due > self.now else "queued"
        if run.state == "queued":
            self.road.append(Entry(run))
        if counted:  # it came to an end with its worker alive, so it begins anew as far as deaths are concerned
            self.ends[counted] += 1
            run.crashes = 0
        return run.state
