"""Moments as they are written."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

import pytest

from docket._moments import read_moment


@pytest.mark.parametrize(
    ("text", "zone"),
    [
        ("2030-01-31T12:00:00Z", timezone.utc),
        ("2030-01-31T12:00:00z", timezone.utc),
        ("2030-01-31T12:00:00+02:00", timezone(timedelta(hours=2))),
        ("2030-01-31T12:00", None),
    ],
)
def test_a_moment_has_the_offset_that_is_written(text: str, zone: timezone | None):
    assert read_moment(text) == datetime(2030, 1, 31, 12, tzinfo=zone)


@pytest.mark.parametrize("text", ["", "Z", "noon", "2030-01-31T25:00Z"])
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(ValueError):
        read_moment(text)
