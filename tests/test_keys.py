"""Every key of a docket, and that no two of them meet."""

from __future__ import annotations

from hypothesis import assume, given
from hypothesis import strategies as st

from docket._keys import Keys

WORDS = ["", "stream", "queue", "runs:x", "x:1", ":", "}:runs:x", "{other}:stream", "meta", "worker:w", "payload:x", "next:x", "outcome:x:1", "1"]
user_keys = st.sampled_from(WORDS) | st.text()
names = st.sampled_from(["orders", "orders}:runs:x", "a", "{a}"]) | st.text(min_size=1)


def internal(keys: Keys) -> set[str]:
    return {keys.stream, keys.queue, keys.leases, keys.workers, keys.meta, keys.strikes, keys.waiting}


def of_a_task(keys: Keys, key: str, generation: int) -> list[str]:
    return [keys.run(key), keys.payload(key), keys.successor(key), keys.outcome(key, generation)]


@given(names, user_keys, st.integers(1, 50))
def test_no_key_a_user_picks_touches_an_internal_one(name: str, key: str, generation: int):
    keys = Keys(name)

    spelt = of_a_task(keys, key, generation)

    assert len({*spelt, *internal(keys), keys.worker(key)}) == len(spelt) + len(internal(keys)) + 1


@given(names, user_keys, user_keys, st.integers(1, 50), st.integers(1, 50))
def test_no_key_a_user_picks_touches_another_ones(name: str, first: str, second: str, one: int, two: int):
    assume(first != second)
    keys = Keys(name)

    assert not {*of_a_task(keys, first, one)} & {*of_a_task(keys, second, two)}
    assert keys.state(first) != keys.state(second)


@given(names, user_keys)
def test_no_channel_of_a_task_is_one_of_the_workers(name: str, key: str):
    keys = Keys(name)

    assert keys.state(key) not in {keys.wake, keys.cancellations, keys.struck}


@given(st.text(st.characters(exclude_characters="{}"), min_size=1), user_keys, st.integers(1, 50))
def test_all_keys_of_a_docket_lie_in_one_cluster_slot(name: str, key: str, generation: int):
    keys = Keys(name)

    for spelt in [*of_a_task(keys, key, generation), *internal(keys), keys.worker(key), keys.state(key), keys.wake, keys.cancellations, keys.struck]:
        assert spelt.startswith(f"{{{name}}}:")
        assert spelt[spelt.index("{") + 1 : spelt.index("}")] == name


@given(names, user_keys, user_keys, st.sampled_from(["holders", "waiters", "most", "rate", "promises", "cooldown", "debounce"]))
def test_what_limits_remember_meets_nothing_else(name: str, identity: str, key: str, kind: str):
    keys = Keys(name)

    limits = {keys.limit(kind, identity), *keys.concurrency(identity), *keys.rate(identity)}

    assert len({*keys.concurrency(identity), *keys.rate(identity)}) == 5
    assert not limits & {*of_a_task(keys, key, 1), *internal(keys), keys.worker(key)}


@given(st.text(st.characters(exclude_characters="{}"), min_size=1), st.text(min_size=1), st.integers(2, 9))
def test_channels_of_shards_lie_in_the_slot_of_what_they_tell_of_and_meet_no_others(name: str, key: str, shards: int):
    keys = Keys(name, shards, own_channels=True)
    shard = keys.of(key)

    for channel in (shard.state(key), shard.state(""), shard.echo(key), shard.silence):
        assert channel.startswith(shard.prefix)
    assert shard.state(key) != shard.state("")
    assert shard.echo(key) != shard.silence
    for channel in (keys.wake, shard.wake, keys.cancellations, shard.cancellations, keys.struck, shard.struck):
        assert channel.startswith(f"{{{name}}}:")
    assert Keys(name, shards).of(key).state(key) == Keys(name).state(key)


def test_a_user_key_with_braces_and_colons_stays_behind_the_prefix():
    assert Keys("orders").run("}:stream") == "{orders}:runs:}:stream"
