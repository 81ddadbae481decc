"""Every example runs as its first lines say, on `memory://` and on a server, and shows what it says it shows; on a server twice, as it will be."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "examples"
ELSEWHERE = {"quickstart", "my_tasks", "fastapi_app"}  # tests/test_readme.py, tests/integrations/test_fastapi.py

Check = Callable[[str], None]
SHOWS: dict[str, Check] = {}


def shows(check: Check) -> Check:
    """This is what an example shows, judged by what it prints."""
    SHOWS[check.__name__.removeprefix("of_")] = check
    return check


def times(text: str, line: str) -> list[float]:
    """This gives the times of the lines that begin so."""
    return [float(seconds) for seconds in re.findall(rf"^\[ *([\d.]+) s\] {re.escape(line)}", text, flags=re.MULTILINE)]


def in_order(text: str, *lines: str) -> None:
    """The lines are there, in this order."""
    position = 0
    for line in lines:
        found = text.find(line, position)
        assert found >= 0, f"{line!r} is not there, or not after what should come before it:\n{text}"
        position = found + len(line)


@shows
def of_perpetual_monitor(text: str):
    assert text.count("is watched from now on") == text.count("was watched already") == 2
    assert len(times(text, "shop is")) == 7 + 1
    assert len(times(text, "mail is")) == 3 + 1
    slow, *more = times(text, "shop is slow")
    assert more[-1] - slow < 2.5  # three of them at 0.1 s, on a machine that has other things to do
    well = [b - a for a, b in pairwise(times(text, "mail is ")[1:])]
    assert all(between >= 0.3 for between in well)  # 0.4 s, rounded twice
    assert text.endswith("nothing is left to watch\n")


@shows
def of_find_and_flood(text: str):
    in_order(text, "24 are due, 24 of them scheduled", " 6 of them scheduled", " 0 are due")
    scheduled = [int(number) for number in re.findall(r"(\d+) of them scheduled", text)]
    assert scheduled[:2] == [24, 6]
    shared = {name: int(count) for name, count in re.findall(r"(\w+) sent (\d+)", text)}
    assert set(shared) <= {"Anna", "Ben", "Cleo"}
    assert len(shared) > 1
    assert sum(shared.values()) == 30
    assert text.endswith("30 reminders for 30 customers\n")


@shows
def of_agenda_scatter(text: str):
    at_once, scattered = text.split("40 calls scattered over a second:")
    assert at_once.count("#") == scattered.count("#") == 40
    most = [int(number) for number in re.findall(r"the most in a tenth of a second: (\d+)", text)]
    assert most[0] > most[1]
    assert len(re.findall(r"^  \d\.\d s", scattered, flags=re.MULTILINE)) >= 9
    assert "The first was due 1.0 s before the last." in text


@shows
def of_live_progress(text: str):
    in_order(
        text,
        "scheduled │",
        "running   │",
        "10 %  prices.csv, from row",
        "50 %  prices.csv",
        "completed │██████████████████████████████│ 100 %",
        "5000 rows imported",
    )
    shares = [int(share) for share in re.findall(r"(\d+) %", text)]
    assert shares == sorted(shares)
    assert len(set(shares)) > 5


@shows
def of_limits(text: str):
    for customer in "ab":
        assert len(times(text, f"sync {customer}")) == 3
    assert "'a': 2" not in text
    assert "'b': 2" not in text
    assert "'a': 1, 'b': 1" in text
    calls = sorted(times(text, "call "))
    assert len(calls) == 9
    assert all(later - call >= 0.1 for call, later in zip(calls, calls[3:], strict=False))  # 0.4 s, rounded twice, told a little late


@shows
def of_chain_by_keys(text: str):
    in_order(text, "order-1: reserved", "order-1: charged", "order-1 stands at ship: scheduled", "order-1: shipped", "order-1 gave 'order 1 is on its way'")
    in_order(text, "order-2: reserved", "order-2: charged", "order-2 stands at ship: scheduled", "order-2 stands at ship: cancelled")
    assert "order-1 asked for again: already_scheduled" in text
    assert Counter(re.findall(r"order-\d: \w+", text)).most_common(1)[0][1] == 1
    assert "order-2: shipped" not in text


@shows
def of_dead_letters(text: str):
    first, second, third = times(text, "charge 17: attempt")[:3]
    assert second - first >= 0.1  # 0.2 s, rounded twice
    assert third - second >= 0.3  # 0.4 s
    assert len(times(text, "charge 18: attempt")) == 1
    in_order(
        text, "letter of charge-17: charge(17, 40), ConnectionError: the bank is closed", "attempt 3 on", "the bank is open", "it gave '40 € for order 17'"
    )
    in_order(text, "charge-18 has failed for good", "letter of charge-18: charge(18, -5), ValueError: less than nothing", "1 letter thrown away")


@shows
def of_sync_tasks(text: str):
    in_order(text, *(f"got 'report {month}'" for month in (1, 2, 3, 4)), "its progress: 10 of 10")
    begun = times(text, "report ")
    assert len(begun) == 4
    assert max(begun) < min(times(text, "got "))  # side by side
    assert len(times(text, "pulse")) >= 2


@shows
def of_test_signup(text: str):
    assert "4 passed" in text


@shows
def of_embedded(text: str):
    mine, *theirs = (int(number) for number in re.findall(r"process (\d+)", text))
    in_order(text, "now everybody leaves", "hello, Ada, from process", "hello, Grace, from process")
    assert len(set(theirs)) == 1
    assert mine not in theirs


def run(name: str, folder: Path, **settings: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(EXAMPLES.parent), "TMPDIR": str(folder), **settings}
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py")], cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_run():
    assert {path.stem for path in EXAMPLES.glob("*.py")} == SHOWS.keys() | ELSEWHERE


@pytest.mark.parametrize("name", SHOWS)
def test_an_example_shows_what_it_says_with_no_server_installed(name: str, tmp_path: Path):
    SHOWS[name](run(name, tmp_path))


@pytest.mark.only_server("an example on a server")
@pytest.mark.parametrize("name", SHOWS)
def test_an_example_shows_what_it_says_on_a_server_again_and_again(name: str, url: str, tmp_path: Path):
    for _ in range(2):
        SHOWS[name](run(name, tmp_path, DOCKET_URL=url))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_an_example_says_in_its_first_lines_how_it_is_run(path: Path):
    text = ast.get_docstring(ast.parse(path.read_text())) or ""

    assert f"python examples/{path.name}" in text or f"python {path.name}" in text
