"""Every Redis key and channel of a docket, one method each. Nobody else spells one.

All start with `{name}:`, so that a docket lives in one cluster slot, ACL patterns are simple, and no key a user picks
can touch an internal one: user keys stand only behind `runs:`, `payload:`, `next:` and `outcome:`.
"""

__all__ = ["Keys"]


class Keys:
    """This spells the keys and channels of one docket."""

    __slots__ = (
        "_letter",
        "_limits",
        "_outcome",
        "_payload",
        "_runs",
        "_state",
        "_successor",
        "cancellations",
        "dead",
        "group",
        "leases",
        "meta",
        "prefix",
        "queue",
        "stream",
        "strikes",
        "struck",
        "waiting",
        "wake",
        "workers",
    )

    def __init__(self, name: str) -> None:
        prefix = self.prefix = f"{{{name}}}:"
        self._runs = prefix + "runs:"
        self._payload = prefix + "payload:"
        self._successor = prefix + "next:"
        self._outcome = prefix + "outcome:"
        self._state = prefix + "state:"
        self._letter = prefix + "dead:"
        self._limits = prefix + "limits:"
        self.stream = prefix + "stream"
        """Ready work: entries of `key` and `generation`, one consumer group."""
        self.queue = prefix + "queue"
        """Future work: sorted set of user keys by due time (microseconds)."""
        self.leases = prefix + "leases"
        """Sorted set of worker instances by the moment their lease lapses (microseconds)."""
        self.workers = prefix + "workers"
        """Sorted set of worker instances by their last heartbeat (microseconds)."""
        self.waiting = prefix + "waiting"
        """Sorted set of concurrency limits that somebody waits for, by when they were last looked at (microseconds)."""
        self.strikes = prefix + "strikes"
        """What is struck: hash of instructions, each with the moment it was struck (microseconds)."""
        self.meta = prefix + "meta"
        """Hash: `layout` (version of this scheme), `generation` and `arrivals` (docket-wide counters), `strikes` (the version of all that is struck),
        `completed`, `failed`, `cancelled` and `retried` (how many so far), `cleared` (the last batch that was cleared, and how many that were)."""
        self.dead = prefix + "dead"
        """Dead letters: sorted set of generations by when they died (microseconds, negative: the latest come first)."""
        self.group = "docket-workers"
        """The stream's consumer group (a name within the stream, not a key)."""
        self.wake = prefix + "wake"
        """Channel: something is due earlier than movers thought."""
        self.cancellations = prefix + "cancel"
        """Channel: a running run is to stop, because it was cancelled or replaced."""
        self.struck = prefix + "struck"
        """Channel: something was struck or restored."""

    def run(self, key: str) -> str:
        """This is the record of a task: a hash."""
        return self._runs + key

    def payload(self, key: str) -> str:
        """This holds arguments too large for the record: a string."""
        return self._payload + key

    def successor(self, key: str) -> str:
        """This holds the arguments of the successor that a run asked for, if too large for the record: a string."""
        return self._successor + key

    def outcome(self, key: str, generation: int) -> str:
        """This holds how one generation ended, where the record cannot: a string."""
        return f"{self._outcome}{key}:{generation}"

    def letter(self, generation: int | str) -> str:
        """This is a dead letter: a hash."""
        return f"{self._letter}{generation}"

    def limit(self, kind: str, identity: str) -> str:
        """This is what a limit remembers: a sorted set (holders, waiters, rate, promises), a hash (cooldown, debounce) or a string (most)."""
        return f"{self._limits}{kind}:{identity}"

    def concurrency(self, identity: str) -> tuple[str, str, str]:
        """This is what a concurrency limit consists of: who holds a place, who waits, and how many places there are."""
        return self.limit("holders", identity), self.limit("waiters", identity), self.limit("most", identity)

    def rate(self, identity: str) -> tuple[str, str]:
        """This is what a rate limit consists of: when runs started, and when those that wait are to start."""
        return self.limit("rate", identity), self.limit("promises", identity)

    def state(self, key: str) -> str:
        """This is the channel of one task's state and progress events."""
        return self._state + key

    def echo(self, token: str) -> str:
        """This is the channel on which one subscriber hears the marks that it asked for."""
        return f"{self.prefix}echo:{token}"

    def worker(self, instance: str) -> str:
        """This describes one worker instance, its tasks among it: a hash."""
        return f"{self.prefix}worker:{instance}"
