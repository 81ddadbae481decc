"""Every Redis key and channel of a docket, one method each. Nobody else spells one.

All start with `{name}:`, so that a docket lives in one cluster slot, ACL patterns are simple, and no key a user picks
can touch an internal one: user keys stand only behind `runs:`, `payload:`, `next:` and `outcome:`.

A docket of several shards has a tag of its own for each of them, `{name~shards.j}`, and so as many slots. Under it stands what belongs to runs; what belongs
to the docket as a whole (strikes, workers, `meta` with the layout and how many shards there are) stays behind `{name}:`, and so does every channel; or, where
the docket has `own_channels`, every one but those of runs: these are the shards' own, for sharded pub/sub (`SPUBLISH`).
Two rules say what stands where, and are never to change, because what was written by them is found by them:

* a user's key belongs to the shard `crc32(key) % shards`;
* the tag of shard i is the `{name~shards.j}` with the least j whose slot is in the i-th of so many equal parts of the 16384 slots, so that shards lie
  as evenly over the primaries of a cluster as slots do. That their number stands in it lets a docket be moved from one number to another.
"""

from __future__ import annotations

from binascii import crc_hqx
from functools import lru_cache
from zlib import crc32

__all__ = ["OWN_CHANNELS", "SLOTS", "Keys", "shard_of", "slot_of", "tags"]

OWN_CHANNELS = "sharded"
"""What stands in `meta` under `channels` where shards have channels of their own. All processes go by that, whatever the server can by then."""

SLOTS = 16384
"""Slots of a cluster."""


def shard_of(key: str, shards: int) -> int:
    """This says in which of so many shards a user's key, or a limit's identity, belongs."""
    return crc32(key.encode("utf-8", "surrogatepass")) % shards


def slot_of(tag: str) -> int:
    """This says which slot of a cluster the keys with a tag are in. See https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/."""
    return crc_hqx(tag.encode("utf-8", "surrogatepass"), 0) % SLOTS


@lru_cache(maxsize=64)
def tags(name: str, shards: int) -> tuple[str, ...]:
    """This names the tags of a divided docket's shards."""
    found: dict[int, str] = {}
    candidate = 0
    while len(found) < shards:
        tag = f"{name}~{shards}.{candidate}"
        found.setdefault(slot_of(tag) * shards // SLOTS, tag)
        candidate += 1
    return tuple(found[shard] for shard in range(shards))


class Keys:
    """This spells the keys and channels of one docket, or of one of its shards; for a divided docket as a whole, those of a user's key in its shard."""

    __slots__ = (
        "_echo",
        "_letter",
        "_limits",
        "_outcome",
        "_payload",
        "_runs",
        "_shards",
        "_shared",
        "_state",
        "_successor",
        "away",
        "cancellations",
        "dead",
        "group",
        "leases",
        "meta",
        "own_channels",
        "prefix",
        "queue",
        "silence",
        "stream",
        "strikes",
        "struck",
        "waiting",
        "wake",
        "workers",
    )

    def __new__(cls, name: str, shards: int = 1, shard: int | None = None, *, own_channels: bool = False) -> Keys:  # noqa: PYI034 - of several shards it is a subclass, so that one pays nothing for it
        return object.__new__(cls if shards == 1 or shard is not None else _KeysOfSeveral)

    def __init__(self, name: str, shards: int = 1, shard: int | None = None, *, own_channels: bool = False) -> None:
        several = shards > 1 and shard is None
        self._shards = tuple(Keys(name, shards, each, own_channels=own_channels) for each in range(shards)) if several else ()
        self.own_channels = own_channels
        """Whether the channels of runs are their shards' own, for sharded pub/sub."""
        home = self._shared = f"{{{name}}}:"
        prefix = self.prefix = home if shard is None else f"{{{tags(name, shards)[shard]}}}:"
        self._runs = prefix + "runs:"
        self._payload = prefix + "payload:"
        self._successor = prefix + "next:"
        self._outcome = prefix + "outcome:"
        self._state = (prefix if own_channels else home) + "state:"
        self._echo = (prefix if own_channels else home) + "echo:"
        self.silence = prefix + "echo:"
        """Channel of its own on which nobody listens, for asking whether the server takes messages for it."""
        self._letter = prefix + "dead:"
        self._limits = prefix + "limits:"
        self.stream = prefix + "stream"
        """Stream of ready work: entries of `key` and `generation`, one consumer group."""
        self.queue = prefix + "queue"
        """Future work: sorted set of user keys by due time (microseconds)."""
        self.leases = prefix + "leases"
        """Sorted set of worker instances by the moment their lease lapses (microseconds)."""
        self.workers = home + "workers"
        """Sorted set of worker instances by their last heartbeat (microseconds)."""
        self.waiting = prefix + "waiting"
        """Sorted set of concurrency limits that somebody waits for, by when they were last looked at (microseconds)."""
        self.away = prefix + "away"
        """Sorted set of user keys that wait for a concurrency limit of another shard, by when that was last looked at (microseconds)."""
        self.strikes = home + "strikes"
        """What is struck: hash of instructions, each with the moment it was struck (microseconds)."""
        self.meta = prefix + "meta"
        """Hash: `layout` (version of this scheme), `shards` (how many, where there are several), `channels`, `generation` and `arrivals` (docket-wide counters), `strikes` (the version of all that is struck),
        `completed`, `failed`, `cancelled` and `retried` (how many so far), `cleared` (the last batch that was cleared, and how many that were)."""
        self.dead = prefix + "dead"
        """Dead letters: sorted set of generations by when they died (microseconds, negative: the latest come first)."""
        self.group = "docket-workers"
        """The stream's consumer group (a name within the stream, not a key)."""
        self.wake = home + ("wake" if shard is None else f"wake:{shard}")
        """Channel: something is due earlier than movers thought."""
        self.cancellations = home + "cancel"
        """Channel: a running run is to stop, because it was cancelled or replaced."""
        self.struck = home + "struck"
        """Channel: something was struck or restored."""

    @property
    def shards(self) -> tuple[Keys, ...]:
        """These are the keys of each shard; of a docket that is not divided, its own."""
        return self._shards or (self,)

    def of(self, key: str) -> Keys:
        """These are the keys of the shard that a user's key, or a limit's identity, belongs in."""
        return self._shards[shard_of(key, len(self._shards))] if self._shards else self

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
        """This is what a limit remembers.

        * `holders`: sorted set of the runs that have a place, by when it lapses (microseconds).
        * `waiters`: sorted set of the runs that wait for a place, by order of arrival.
        * `most`: string, how many places there are.
        * `rate`: sorted set of when runs started (microseconds).
        * `promises`: sorted set of the moments kept for runs that came too early.
        * `cooldown`: hash, who ran last, and until when that counts.
        * `debounce`: hash, who came first and runs for all, when the last one came, and when it is to run.
        """
        return f"{self._limits}{kind}:{identity}"

    def concurrency(self, identity: str) -> tuple[str, str, str]:
        """This is what a concurrency limit consists of: who holds a place, who waits, and how many places there are."""
        return self.limit("holders", identity), self.limit("waiters", identity), self.limit("most", identity)

    def rate(self, identity: str) -> tuple[str, str]:
        """This is what a rate limit consists of: when runs started, and when those that wait are to start."""
        return self.limit("rate", identity), self.limit("promises", identity)

    def state(self, key: str) -> str:
        """This is the channel of one task's state and progress events. That of no task is the one of all: what their channels begin with, or one of its own."""
        return self._state + key

    def echo(self, token: str) -> str:
        """This is the channel on which one subscriber hears the marks that it asked for."""
        return self._echo + token

    def worker(self, instance: str) -> str:
        """This describes one worker instance, its tasks among it: a hash."""
        return f"{self._shared}worker:{instance}"


class _KeysOfSeveral(Keys):
    """This spells what belongs to a key, or to a limit, in the shard that it belongs in."""

    __slots__ = ()

    def run(self, key: str) -> str:
        return self.of(key).run(key)

    def payload(self, key: str) -> str:
        return self.of(key).payload(key)

    def successor(self, key: str) -> str:
        return self.of(key).successor(key)

    def outcome(self, key: str, generation: int) -> str:
        return self.of(key).outcome(key, generation)

    def limit(self, kind: str, identity: str) -> str:
        return self.of(identity).limit(kind, identity)
