"""Durations as the command line shows them (how it reads them: `tests/test_options.py`)."""

from datetime import timedelta

import click
import pytest

from docket._options import parse_duration
from docket.cli._durations import duration, format_short


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (timedelta(milliseconds=250), "250ms"),
        (timedelta(microseconds=500), "0.5ms"),
        (timedelta(), "0ms"),
        (timedelta(seconds=5), "5s"),
        (timedelta(seconds=90), "90s"),
        (timedelta(minutes=15), "15m"),
        (timedelta(hours=1), "1h"),
        (timedelta(days=2), "2d"),
    ],
)
def test_a_duration_is_shown_as_it_can_be_typed(value: timedelta, text: str):
    assert format_short(value) == text
    assert parse_duration(text) == value


def test_what_is_no_duration_is_a_wrong_use():
    with pytest.raises(click.BadParameter, match="'soon' is not a duration; write 250ms"):
        duration("soon")
