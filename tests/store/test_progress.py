"""Progress of running tasks."""

from __future__ import annotations

from typing import Any

import pytest

from docket._store import Store
from docket._store.progress import UNCHANGED
from docket._store.records import ProgressChange, RunId
from docket._store.shard import Shard
from docket.errors import RedisUnavailable
from tests._shards import nth
from tests.store._work import order, start


async def test_progress_adds_up_and_is_read_with_the_record(store: Store):
    claimed = await start(store)

    first = await store.progress.update("k", claimed.run, add=2, total=10, message="begun")
    second = await store.progress.update("k", add=3)

    assert first is not None
    assert first == ProgressChange("k", nth(store, 1), 2, 10, "begun", first.updated_us)
    assert second is not None
    assert second == ProgressChange("k", 0, 5, 10, "begun", second.updated_us)
    record = await store.inspection.load("k")
    assert record is not None
    assert (record.progress_current, record.progress_total, record.progress_message, record.progress_us) == (5, 10, "begun", second.updated_us)


async def test_a_message_stays_until_it_is_taken_away(store: Store):
    claimed = await start(store)
    await store.progress.update("k", claimed.run, message="there")

    kept = await store.progress.update("k", claimed.run, message=UNCHANGED)
    gone = await store.progress.update("k", claimed.run, message=None)

    assert kept is not None
    assert kept.message == "there"
    assert gone is not None
    assert gone.message is None


async def test_a_message_that_utf8_cannot_write_is_reported_all_the_same(store: Store):
    claimed = await start(store)

    change = await store.progress.update("k", claimed.run, message="file \udc80")

    assert change is not None
    assert change.message == "file ?"


async def test_a_replaced_run_cannot_touch_its_replacement(store: Store):
    old = await start(store)
    await start(store, order(replace=True))

    assert await store.progress.update("k", old.run, add=1) is None
    assert await store.progress.update("k", RunId("k", nth(store, 2), 9), add=1) is None

    record = await store.inspection.load("k")
    assert record is not None
    assert record.progress_current == 0


async def test_a_report_without_an_answer_is_repeated_and_counts_once(store: Store, shard: Shard, monkeypatch: pytest.MonkeyPatch):
    claimed = await start(store)
    update, asked = shard.progress.update, 0

    async def losing(*args: Any, **kwargs: Any) -> Any:
        nonlocal asked
        asked += 1
        answer = await update(*args, **kwargs)
        if asked == 1:
            raise RedisUnavailable("the reply was lost")
        return answer

    monkeypatch.setattr(shard.progress, "update", losing)
    change = await store.progress.land("k", claimed.run, 1, add=2, total=10, message="begun")

    assert change is not None
    assert (asked, change.current, change.total, change.message) == (2, 2, 10, "begun")
