"""A frame of `docket top`, drawn from values; that the command shows it: `test_top.py`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from io import StringIO

import pytest
from rich.cells import cell_len
from rich.console import Console

from docket._clock import to_us
from docket._store.records import Counts, Failure, ProgressChange, Underway
from docket.cli._top_frame import View, frame, rows_for
from docket.cli._top_reading import History, Reading, WorkerRow

NOW = to_us(datetime(2026, 7, 28, 14, 2, 11).astimezone())
SECOND = 1_000_000


def counts(**given: int) -> Counts:
    return Counts(**{"scheduled": 0, "queued": 0, "running": 0, "waiting": 0, "completed": 0, "failed": 0, "cancelled": 0, "retried": 0, **given})


def run(key: str, started: float = 12, *, function: str = "charge", attempt: int = 1, progress: tuple[int | None, int, str | None] | None = None) -> Underway:
    change = None if progress is None else ProgressChange(key, 1, *progress, NOW)
    return Underway(key, function, "web-1", NOW - int(started * SECOND), attempt, change)


READING = Reading(
    now_us=NOW,
    counts=counts(scheduled=20_001, queued=1_204, running=37, waiting=3, overdue=2, completed=1_204_551, failed=312, retried=1_022),
    ready_since_us=NOW - 3_200_000,
    next_due_us=NOW + 4 * SECOND,
    underway=[
        run("import:berlin", 4000, function="import_catalogue", progress=(45, 100, "page 45 of berlin")),
        run("order-123", 12, attempt=2, progress=(None, 4, None)),
        *(run(f"order-{number}") for number in range(200, 220)),
    ],
    workers=[WorkerRow("web-1#4242", NOW - SECOND, 20, 12), WorkerRow("web-2#17", NOW, 17, None), WorkerRow("idle", NOW, 0, 1)],
    failures=[Failure(f"order-{number}", "charge", "web-1", 1, NOW - number * SECOND, "ValueError: card declined") for number in range(1, 20)],
    strikes=["charge(customer == 13)", "*(test == True)"],
)


def history(*totals: dict[str, int]) -> History:
    kept = History()
    for seconds, each in enumerate(reversed(totals)):
        kept.looks.appendleft((NOW - seconds * SECOND, counts(**each)))
    return kept


VIEW = View(
    docket="orders",
    url="redis://***@redis:6379/0",
    reading=READING,
    history=history({"completed": 0}, {"completed": 100}, {"completed": 1000, "failed": 1}, {"completed": 1812, "failed": 1}),
    now_us=NOW,
    interval=timedelta(seconds=2),
)


def drawn(view: View, width: int = 80, height: int = 24) -> list[str]:
    return [line.plain.rstrip() for line in frame(view, width, height)]


def test_a_frame():
    assert drawn(VIEW) == [
        "docket orders  redis://***@redis:6379/0                       every 2s  14:02:11",
        "─" * 80,
        "running         37  on 2 of 3 workers  completed    604/s         ▂█▇  1,204,551",
        "queued       1,204  for up to 3.2s     failed       0.3/s         ▁█▁        312",
        "waiting          3  behind limits      retried        0/s         ▁▁▁      1,022",
        "overdue          2                     cancelled      0/s         ▁▁▁          0",
        "scheduled   20,001  next in 4.0s",
        "Strikes 2 in effect: charge(customer == 13), *(test == True)",
        "Running 37  the 6 longest",
        "import_catalogue    import:berlin  web-1  1h 06m  ━━━━━━━━  45% page 45 of berl…",
        "charge (attempt 2)  order-123      web-1     12s  ━━━━━━━━   0% 0/4",
        "charge              order-200      web-1     12s",
        "charge              order-201      web-1     12s",
        "charge              order-202      web-1     12s",
        "charge              order-203      web-1     12s",
        "Workers 3",
        "web-1#4242  runs 20  knows 12 tasks  seen 1.0s ago",
        "web-2#17    runs 17                  seen 0s ago",
        "idle        runs 0   knows 1 task    seen 0s ago",
        "Last failures",
        "14:02:10  charge  order-1   ValueError: card declined",
        "14:02:09  charge  order-2   ValueError: card declined",
        "14:02:08  charge  order-3   ValueError: card declined",
        " q  quit   p  pause   + -  interval   space  look now",
    ]


def test_a_narrow_one_leaves_out_what_it_has_no_room_for():
    assert drawn(replace(VIEW, unicode=False), 50, 20) == [
        "docket orders  redis://***@…    every 2s  14:02:11",
        "-" * 50,
        "running         37  on 2 of 3 workers",
        "queued       1,204  for up to 3.2s",
        "waiting          3  behind limits",
        "overdue          2",
        "scheduled   20,001  next in 4.0s",
        "completed    604/s           .#%  1,204,551",
        "failed       0.3/s           _#_        312",
        "retried        0/s           ___      1,022",
        "cancelled      0/s           ___          0",
        "Strikes 2 in effect: charge(customer == 13), *(te…",
        "Running 37  the 2 longest",
        "imp…ogue  imp…rlin  1h 06m  ##....  45% page 45 o…",
        "cha…t 2)  ord…-123     12s  ......   0% 0/4",
        "Workers 3  the busiest",
        "web-1#4242  runs 20  seen 1.0s ago",
        "Last failures",
        "14:02:10  charge  order-1   ValueError: card decl…",
        " q  quit   p  pause   + -  interval   space  look…",
    ]


@pytest.mark.parametrize(
    "view", [VIEW, replace(VIEW, reading=None), replace(VIEW, is_live=False), replace(VIEW, away_since_us=NOW, paused=True, unicode=False)]
)
def test_a_frame_fits_every_screen(view: View):
    for width in (*range(1, 20), 29, 30, 36, 44, 50, 56, 69, 70, 71, 72, 80, 200):
        for height in (*range(1, 15), 24, 60):
            lines = frame(view, width, height)
            assert len(lines) <= height
            assert all(cell_len(line.plain) <= width for line in lines), (width, height)


def test_a_large_screen_keeps_its_tables_apart_and_shows_all_there_is_room_for():
    lines = drawn(VIEW, 130, 60)

    assert len(lines) == 60
    for title in ("Strikes 2 in effect", "Running 37  the 22 longest", "Workers 3", "Last failures"):
        [at] = [number for number, line in enumerate(lines) if line.startswith(title)]
        assert lines[at - 1] == ""
    assert sum("card declined" in line for line in lines) == 19
    assert any("page 45 of berlin" in line for line in lines)


def test_an_idle_docket_is_a_calm_frame():
    quiet = Reading(NOW, counts(), None, None, [], [WorkerRow("w", NOW, 0, 3)], [], [])

    assert drawn(replace(VIEW, reading=quiet, history=history({}))) == [
        "docket orders  redis://***@redis:6379/0                       every 2s  14:02:11",
        "─" * 80,
        "running          0  on 0 of 1 workers  completed        -                      0",
        "queued           0                     failed           -                      0",
        "waiting          0                     retried          -                      0",
        "overdue          0                     cancelled        -                      0",
        "scheduled        0",
        "",
        "Running 0",
        "nothing runs",
        "",
        "Workers 1",
        "w  runs 0  knows 3 tasks  seen 0s ago",
        "",
        "Last failures",
        "none of late",
        *[""] * 7,
        " q  quit   p  pause   + -  interval   space  look now",
    ]


@pytest.mark.parametrize(("number", "told"), [(1, "Last failures  1 dead letter"), (1_204, "Last failures  1,204 dead letters"), (0, "Last failures")])
def test_failures_say_how_many_dead_letters_there_are(number: int, told: str):
    reading = replace(READING, counts=counts(dead_letters=number))

    assert told in drawn(replace(VIEW, reading=reading), 100, 40)


def the_style_of(words: str, view: View) -> str:
    for line in frame(view, 100, 30):
        for part in line.spans:
            if words in line.plain[part.start : part.end]:
                return str(part.style)
        if words in line.plain:
            return str(line.style)
    raise AssertionError(f"{words!r} is not shown")


def test_what_needs_somebody_stands_out():
    troubled = replace(READING, workers=[], ready_since_us=NOW - 61 * SECOND)

    for words in ("no worker is alive: nothing will run", "no worker is alive", "for up to 1m 01s", "       2"):
        assert "red" in the_style_of(words, replace(VIEW, reading=troubled))
    for words in ("for up to 3.2s", "on 2 of 3 workers"):
        assert the_style_of(words, VIEW) == "dim"
    assert "red" not in the_style_of("       2", VIEW)


def test_while_redis_is_away_the_last_look_stays_and_its_age_is_told():
    away = replace(VIEW, now_us=NOW + 75 * SECOND, away_since_us=NOW + 5 * SECOND)

    lines = drawn(away)

    assert lines[1] == " Redis is away for 1m 10s; this is what was seen 1m 15s ago"
    assert "web-1#4242" in "\n".join(lines)


def test_before_the_first_look_there_is_a_word_about_it():
    assert drawn(replace(VIEW, reading=None))[1:] == ["Looking ..."]
    assert drawn(replace(VIEW, reading=None, away_since_us=NOW))[1:] == ["Redis is away; waiting for it"]


def test_a_pause_is_told_and_how_to_end_it():
    lines = drawn(replace(VIEW, paused=True))

    assert lines[0].endswith(" PAUSED   every 2s  14:02:11")
    assert " p  go on " in lines[-1]


def test_a_frame_that_is_printed_has_no_keys_and_no_courses():
    lines = drawn(replace(VIEW, is_live=False), height=60)

    assert lines[0].endswith("  2026-07-28 14:02:11")
    assert "█" not in "".join(lines)
    assert "quit" not in lines[-1]


def test_what_others_wrote_gives_the_terminal_no_orders():
    nasty = "\x1b[2J[bold]\n"
    reading = Reading(
        NOW,
        counts(running=1),
        None,
        None,
        [run(nasty, function=nasty, progress=(1, 2, nasty))],
        [WorkerRow(nasty, NOW, 1, 1)],
        [Failure(nasty, nasty, nasty, 1, NOW, nasty), Failure("k", "f", None, 1, NOW, None)],
        [nasty],
    )
    console = Console(file=StringIO(), width=200, force_terminal=False)
    with console.capture() as captured:
        for line in frame(replace(VIEW, docket=nasty, url=nasty, reading=reading), 200, 40):
            console.print(line)

    assert "\x1b" not in captured.get()
    assert captured.get().count(r"\x1b[2J[bold]\n") >= 9


def test_wide_characters_are_cut_to_the_columns_they_take():
    [row] = [line for line in drawn(replace(VIEW, reading=replace(READING, underway=[run("注文" * 30)]))) if line.startswith("charge")]

    assert "…" in row
    assert cell_len(row) <= 80


@pytest.mark.parametrize(("rate", "shown"), [(0, "0/s"), (0.001, "<0.1/s"), (0.06, "0.1/s"), (12.34, "12.3/s"), (1234.5, "1,234/s")])
def test_a_rate_is_written_as_exactly_as_it_matters(rate: float, shown: str):
    looks = history({"completed": 0}, {"completed": 0})
    looks.looks[-1] = (NOW, counts(completed=int(rate * 1000)))
    looks.looks[0] = (NOW - 1000 * SECOND, counts())

    assert f" {shown} " in drawn(replace(VIEW, history=looks))[2]


def test_millions_are_shortened():
    assert drawn(replace(VIEW, reading=replace(READING, counts=counts(completed=12_345_678))))[2].endswith("    12.3M")


def test_no_more_rows_are_read_than_can_be_shown():
    for height in range(1, 100):
        most = max(sum(line.startswith(word) for line in drawn(VIEW, 100, height)) for word in ("charge", "web", "14:"))
        assert most <= rows_for(height)


class TestHistory:
    def test_a_rate_takes_two_looks(self):
        assert History().rate("completed") is None
        assert history({}).rate("completed") is None
        assert history({}, {"completed": 5}).rate("completed") == 5.0

    def test_a_rate_is_that_of_the_last_ten_seconds(self):
        looks = history(*({"completed": 100} for _ in range(11)), {"completed": 200})

        assert looks.rate("completed") == 10.0

    def test_of_looks_further_apart_it_is_that_of_the_last_two(self):
        looks = history({}, {"failed": 600})
        looks.looks[0] = (NOW - 60 * SECOND, counts())

        assert looks.rate("failed") == 10.0

    def test_a_total_that_fell_was_begun_anew(self):
        assert history({"completed": 100}, {"completed": 3}).rate("completed") == 0.0
        assert history({"completed": 100}, {"completed": 3}, {"completed": 5}).course("completed", 10) == [0.0, 2.0]

    def test_two_looks_at_one_moment_tell_nothing(self):
        looks = history({}, {"completed": 5})
        looks.looks[0] = looks.looks[1]

        assert looks.rate("completed") == 0.0

    def test_a_course_has_no_more_points_than_asked(self):
        looks = history(*({"completed": number} for number in range(20)))

        assert looks.course("completed", 5) == [1.0] * 5

    def test_it_does_not_grow_for_ever(self):
        kept = History()
        for _ in range(1000):
            kept.add(READING)

        assert len(kept.looks) < 300
