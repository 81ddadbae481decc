"""How commands write what they read."""

import sys
from io import BytesIO, StringIO, TextIOWrapper

import pytest

from docket.cli._words import percent, printable, span, tolerate_any_text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain", "plain"),
        ("schön 日本語 👩‍👧", "schön 日本語 👩‍👧"),
        ("[bold]no markup[/bold]", "[bold]no markup[/bold]"),
        ("\x1b[2J", r"\x1b[2J"),
        ("two\nlines\r\t", r"two\nlines\r\t"),
        ("\x9b31m", r"\x9b31m"),
        ("\u2028\u202e", r"\u2028\u202e"),
        ("\udc80", r"\udc80"),
    ],
)
def test_a_text_gives_the_terminal_no_orders(text: str, shown: str):
    assert printable(text) == shown


@pytest.mark.parametrize(
    ("seconds", "written"),
    [
        (-1, "0s"),
        (0, "0s"),
        (0.001, "0s"),
        (0.25, "0.25s"),
        (0.996, "1.0s"),
        (9.94, "9.9s"),
        (9.96, "10s"),
        (59.4, "59s"),
        (59.6, "1m 00s"),
        (245, "4m 05s"),
        (3599.7, "1h 00m"),
        (9000, "2h 30m"),
        (86399.9, "1d 0h"),
        (273600, "3d 4h"),
    ],
)
def test_a_span_of_time_is_written_in_its_two_largest_units(seconds: float, written: str):
    assert span(seconds) == written


@pytest.mark.parametrize(("current", "total", "expected"), [(0, 3, 0), (1, 3, 33), (999, 1000, 99), (3, 3, 100), (5, 3, 100)])
def test_all_of_it_is_a_hundred_percent(current: int, total: int, expected: int):
    assert percent(current, total) == expected


def test_what_an_encoding_lacks_is_a_question_mark(monkeypatch: pytest.MonkeyPatch):
    out = TextIOWrapper(BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", out)
    tolerate_any_text()
    print("schön", end="", flush=True)

    assert out.buffer.getvalue() == b"sch?n"


def test_an_output_that_is_none_of_ours_is_left_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdout", StringIO())

    tolerate_any_text()
