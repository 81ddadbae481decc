"""Where the time comes from."""

from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from docket._clock import SYSTEM, from_us, to_us


@given(st.datetimes(timezones=st.sampled_from([timezone.utc, timezone(timedelta(hours=5, minutes=30)), timezone(-timedelta(hours=8))])))
def test_moments_come_back_exactly(moment: datetime):
    again = from_us(to_us(moment))

    assert again == moment
    assert again.tzinfo is timezone.utc


def test_the_epoch_is_zero():
    assert to_us(datetime(1970, 1, 1, 1, tzinfo=timezone(timedelta(hours=1)))) == 0
    assert to_us(datetime(1970, 1, 1, 0, 0, 1, tzinfo=timezone.utc)) == 1_000_000


def test_both_ways_of_asking_tell_the_same_time():
    before = SYSTEM.now_us()
    now = SYSTEM.now()

    assert before <= to_us(now) <= SYSTEM.now_us()
    assert now.tzinfo is timezone.utc


async def test_sleeping_takes_its_time():
    began = SYSTEM.monotonic()

    await SYSTEM.sleep(0.01)

    assert time.monotonic() - began >= 0.01
