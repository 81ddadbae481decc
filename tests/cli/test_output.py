"""How commands print: plain columns, pages, JSON. (What a terminal shows is tested with the commands.)"""

import io
import sys

import pytest

from docket.cli._output import Columns, Page, Styled, count_of, write_json


def test_columns_are_as_wide_as_their_widest_cell_and_nothing_is_cut():
    assert Columns(("A", "LONGER", "C")).lines([("1", Styled("2", "red"), "3"), ("long" * 30, "5", "")]) == [
        "A" + " " * 119 + "  LONGER  C",
        "1" + " " * 119 + "  2       3",
        "long" * 30 + "  5",
    ]


def test_columns_that_come_in_parts_keep_their_width():
    columns = Columns(("A", "B"))

    assert columns.lines([("wide", "1")]) == ["A     B", "wide  1"]
    assert columns.lines([("x", "2")]) == ["x     2"]
    assert columns.lines([("widest", "3")]) == ["widest  3"]


def test_characters_that_take_two_columns_are_counted_so():
    assert Columns(("KEY", "B")).lines([("鍵鍵", "1"), ("abcd", "2")]) == ["KEY   B", "鍵鍵  1", "abcd  2"]


def test_what_would_break_a_line_is_spelt_out():
    assert Columns(("A", "B")).lines([("a\nb", "\x1b[1m")]) == ["A     B", r"a\nb  \x1b[1m"]


def test_a_page_in_a_pipe_is_plain(capsys: pytest.CaptureFixture[str]):
    page = Page()
    page.line(Styled("Heading", "bold"))
    page.table((), [(Styled("Key", "bold"), "k"), ("Longer", "v")])
    page.line()
    page.table(("A", "B"), [("1", "2")])

    page.show()

    assert capsys.readouterr().out == "Heading\nKey     k\nLonger  v\n\nA  B\n1  2\n"


def test_json_is_written_one_object_a_line_in_ascii(capsys: pytest.CaptureFixture[str]):
    write_json([{"a": "ü"}, {"b": None}])
    write_json([])

    assert capsys.readouterr().out == '{"a": "\\u00fc"}\n{"b": null}\n'


def test_a_character_that_the_output_cannot_take_stops_nothing(monkeypatch: pytest.MonkeyPatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))

    page = Page()
    page.line("鍵")
    page.show()
    sys.stdout.flush()

    assert written.getvalue() == b"?\n"


@pytest.mark.parametrize(("number", "words"), [(0, "0 tasks"), (1, "1 task"), (12000, "12,000 tasks")])
def test_things_are_counted_in_words(number: int, words: str):
    assert count_of(number, "task") == words
