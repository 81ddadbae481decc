"""The site: all pages are in it, and what its pages have from the code is whole. `nox -s docs` builds it, and looks at what was built."""

from __future__ import annotations

import dataclasses
import os
import re
import sys
from importlib import import_module
from pathlib import Path

import click
import pytest
import yaml

from docket import errors
from docket._keys import Keys
from docket._options import DocketOptions, WorkerOptions
from docket.cli import app
from docket.states import TRANSITIONS, ExecutionState
from docket_site.check import complaints
from docket_site.pages import UnknownPart, complete, write
from docket_site.parts import PARTS, Source, states
from docket_site.parts.api import ELSEWHERE, PLAIN, entries
from docket_site.parts.options import defaults_of
from docket_site.parts.road import steps
from docket_site.source import Module, public_modules

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
BOOKMARKED = ("getting-started", "dependencies", "testing", "advanced-patterns", "production", "api-reference")


def completed(name: str) -> str:
    return complete((DOCS / f"{name}.md").read_text(), ROOT)


def part(name: str, about: str = "") -> str:
    return PARTS[name](Source(root=ROOT, about=about, instead=""))


def in_nav() -> list[str]:
    """These are the pages of the nav, in order."""
    text = (ROOT / "mkdocs.yml").read_text()
    found: list[str] = []

    def gather(nav: object) -> None:
        if isinstance(nav, str):
            found.append(nav)
        elif isinstance(nav, dict):
            for inner in nav.values():  # pyright: ignore[reportUnknownVariableType]
                gather(inner)  # pyright: ignore[reportUnknownArgumentType]
        elif isinstance(nav, list):
            for inner in nav:  # pyright: ignore[reportUnknownVariableType]
                gather(inner)  # pyright: ignore[reportUnknownArgumentType]

    gather(yaml.safe_load(text)["nav"])
    return found


def test_every_page_is_in_the_nav_once_and_every_entry_of_the_nav_is_a_page():
    assert sorted(in_nav()) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_the_pages_that_users_have_bookmarked_are_there():
    assert [name for name in BOOKMARKED if not (DOCS / f"{name}.md").exists()] == []
    assert "## Task State and Progress Monitoring" in (DOCS / "advanced-patterns.md").read_text()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_page_reads_on_its_own_and_is_completed_for_the_site(page: Path):
    text = page.read_text()

    assert text.startswith("# ")
    for instead in re.findall(r"^<!-- generated: .*? -->\n(.*?)^<!-- end of generated -->$", text, flags=re.MULTILINE | re.DOTALL):
        assert instead.startswith(("*On the site, ", "The transitions", "| step |"))  # what stands there for those who read the file itself
    assert "<!-- generated" not in complete(text, ROOT)


def test_a_mark_that_nobody_fills_is_refused():
    with pytest.raises(UnknownPart, match="no maker makes 'stats'; there are api, "):
        complete("<!-- generated: stats -->\n<!-- end of generated -->\n", ROOT)
    with pytest.raises(UnknownPart, match="a mark has no end"):
        complete("<!-- generated: states -->\nand no end\n", ROOT)


def test_the_pages_that_are_written_lead_to_each_other_and_to_files_that_came_along(tmp_path: Path):
    write(ROOT, tmp_path / "docs")
    write(ROOT, tmp_path / "docs")  # again, in place of what is there

    pages = list((tmp_path / "docs").rglob("*.md"))
    assert len(pages) == len(PAGES)
    assert (tmp_path / "docs" / "files" / "examples" / "embedded.py").read_text() == (ROOT / "examples" / "embedded.py").read_text()
    assert not (tmp_path / "docs" / "_site").exists()
    for page in pages:
        for path in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text()):
            assert (page.parent / path).exists(), f"{page.name}: {path}"


# States


def test_every_transition_is_drawn():
    drawing, table = part("states"), part("states", "table")

    for state in ExecutionState:
        assert f">{state.value}</text>" in drawing
    assert drawing.count("<path d=") == 2 + sum(map(len, TRANSITIONS.values()))  # the tip, and the way in
    assert {tuple(row) for row in re.findall(r"^\| (\w+) \| (\w+) \|", table, flags=re.MULTILINE)} - {("from", "to")} == {
        (before.value, after.value) for before, following in TRANSITIONS.items() for after in following
    }


def test_a_transition_that_is_not_drawn_stops_the_build(monkeypatch: pytest.MonkeyPatch):
    more = {**TRANSITIONS, ExecutionState.FAILED: frozenset({ExecutionState.QUEUED})}
    monkeypatch.setattr(sys.modules["docket_site.parts.states"], "TRANSITIONS", more)

    with pytest.raises(ValueError, match="failed.*queued"):
        states(Source(root=ROOT, about="", instead=""))


def test_the_page_of_states_tells_of_each():
    page = (DOCS / "states.md").read_text()

    assert re.findall(r"^\| (\w+) \| (?:It|A|The)", page, flags=re.MULTILINE) == [state.value for state in ExecutionState]


# Keys


def test_every_key_and_channel_is_listed_with_its_kind():
    keys = Keys("name")
    spelt = {value for name in Keys.__slots__ if not name.startswith("_") and name != "prefix" and isinstance(value := getattr(keys, name), str)}
    spelt |= {keys.run("<key>"), keys.payload("<key>"), keys.successor("<key>"), keys.state("<key>"), keys.echo("<token>"), keys.worker("<instance>")}
    spelt |= {keys.letter("<generation>"), *keys.concurrency("<limit>"), *keys.rate("<limit>"), keys.limit("cooldown", "<limit>")}
    spelt |= {keys.limit("debounce", "<limit>"), "{name}:outcome:<key>:<generation>"}

    rows = re.findall(r"^\| `([^`]*)` \| (.*) \|$", part("keys") + "\n" + part("keys", "channels"), flags=re.MULTILINE)

    assert {pattern for pattern, _ in rows} == spelt
    assert {text.partition(" | ")[0] for _, text in re.findall(r"^\| `([^`]*)` \| (.*) \|$", part("keys"), flags=re.MULTILINE)} == {
        *("stream", "sorted set", "hash", "string", "consumer group")
    }


# The command line


def commands(command: click.Command, context: click.Context) -> list[click.Context]:
    found = [context]
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            found += commands(inner, click.Context(inner, info_name=name, parent=context))
    return found


def test_every_command_and_every_option_is_in_the_reference():
    page = completed("cli")

    for context in commands(app, click.Context(app, info_name="docket"))[1:]:
        heading = re.search(rf"^#+ {context.command_path}\n(.*?)(?=^#+ docket|\Z)", page, flags=re.MULTILINE | re.DOTALL)
        assert heading is not None, context.command_path
        for option in context.command.params:
            if isinstance(option, click.Option) and not option.hidden:
                for name in (*option.opts, *option.secondary_opts):
                    assert f"`{name}`" in heading[1], (context.command_path, name)
                if isinstance(option.envvar, str):
                    assert f"`{option.envvar}`" in heading[1]


def test_defaults_of_the_command_line_are_in_a_column_of_their_own():
    row = next(line for line in completed("cli").splitlines() if "`--concurrency`" in line)

    assert row == "| `--concurrency` `INTEGER RANGE` | How many tasks run at the same time. | 10 | `DOCKET_WORKER_CONCURRENCY` |"


# Errors

MEND_NOTHING = {"DocketError": "it is the root", "ExecutionCancelled": "somebody wanted that"}


def test_every_error_is_in_the_tree_and_says_what_to_do():
    tree, each = part("errors"), part("errors", "each")

    for name in errors.__all__:
        assert f"[`{name}`](#{name.lower()})" in tree
        entry = re.search(rf"^### {name}\n(.*?)(?=^### |\Z)", each, flags=re.MULTILINE | re.DOTALL)
        assert entry is not None, name
        assert ("What to do: " in entry[1] or "Await the docket itself" in entry[1]) is (name not in MEND_NOTHING), name


# The API reference


def test_every_public_name_has_an_entry():
    page, of_errors = completed("api-reference"), completed("errors")

    told = entries(Source(root=ROOT, about="", instead=""))

    assert len(told) > 150
    for module, name in told.values():
        where = Module.read(ROOT, module)
        if module == "docket.errors":
            assert f"### {name}\n" in of_errors
        elif module not in ELSEWHERE and where.node(name) is not None and name != "testing":
            assert f"::: {module}.{name}\n" in page, f"{module}.{name}"


def test_every_public_module_is_on_the_page():
    page = (DOCS / "api-reference.md").read_text()
    told = set(re.findall(r"^<!-- generated: api (\S+) -->$", page, flags=re.MULTILINE))

    wanted = {name for name in public_modules(ROOT) if Module.read(ROOT, name).public and name not in (*ELSEWHERE, *PLAIN)}

    assert {name for name in wanted if not name.startswith("docket.integrations")} == told - {"docket.integrations.*"}
    assert "docket.integrations.*" in told


def test_the_names_of_the_package_are_a_table_of_contents():
    table = part("names", "docket")
    package = import_module("docket")

    assert re.findall(r"^\| \[`(\w+)`\]", table, flags=re.MULTILINE) == package.__all__
    assert "| [`Retry`](#docket.dependencies.Retry) | This " in table
    assert "| [`DocketError`](errors.md#docketerror) | This " in table


@pytest.mark.parametrize(("about", "of"), [("docket", DocketOptions), ("worker", WorkerOptions)])
def test_every_option_is_in_a_table_with_its_default(about: str, of: type[DocketOptions | WorkerOptions]):
    table = part("options", about)

    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == [field.name for field in dataclasses.fields(of)]
    if about == "worker":
        assert "| `redelivery_timeout` | `5m` | How long after" in table
        assert "`--redelivery-timeout`<br>`DOCKET_WORKER_REDELIVERY_TIMEOUT` |" in table


def test_signatures_show_defaults_as_they_are_written():
    assert defaults_of(ROOT, "DocketOptions")["heartbeat_interval"] == "timedelta(seconds=2)"
    assert defaults_of(ROOT, "DocketOptions")["url"] == "'redis://localhost:6379/0'"
    assert defaults_of(ROOT, "DocketOptions")["serializer"] == "'cloudpickle'"


# How it works


def test_every_file_on_the_road_of_a_task_is_there():
    page = (DOCS / "how-it-works.md").read_text()
    (table,) = re.findall(r"^<!-- generated: road -->\n(.*?)^<!-- end of generated -->$", page, flags=re.MULTILINE | re.DOTALL)

    files = set(re.findall(r"`([\w/]+\.(?:py|lua))`", page))

    assert len(steps(table)) > 7
    assert len(files) > 30
    for file in files:
        assert (ROOT / file).exists() or (ROOT / "docket" / file).exists() or list((ROOT / "docket").rglob(file)), file
    for step in steps(table):
        assert re.search(r"`docket/[\w/]+\.py`", step["where"])
        assert f"<strong>{step['step']}</strong>" in complete(page, ROOT)


# Performance


def test_what_the_page_about_performance_answers_first_is_what_was_measured():
    answer, _, tables = (DOCS / "performance.md").read_text().partition("## The tables")
    rows = [line.split("|")[1:-1] for line in answer.splitlines() if line.startswith("| ")]
    measured = tables.partition("## Running the benchmark")[0]

    figures = [figure for _, *cells in rows for cell in cells for figure in re.findall(r"\d[\d,.]*\d|\d+", cell)]

    assert len(figures) > 10
    assert [figure for figure in figures if not re.search(rf"(?<![\d.,]){re.escape(figure)}(?![\d,])", measured)] == []


# What pages are made of


def test_what_would_come_from_another_host_is_found(tmp_path: Path):
    (tmp_path / "page.html").write_text(
        '<link rel="canonical" href="https://docs.example/"><link rel="stylesheet" href="//cdn.example/a.css"><a href="https://elsewhere.example">a link</a>'
        '<script src="https://cdn.example/b.js"></script><img src="pictures/here.png"><style>@import "https://cdn.example/c.css";</style>'
        '<p style="background: url(https://cdn.example/d.png)">'
    )
    (tmp_path / "style.css").write_text('a { background: url("https://cdn.example/e.woff") } b { background: url(here.png) }')

    found = "\n".join(complaints(tmp_path))

    assert [name for name in "abcde" if f"cdn.example/{name}." not in found] == []
    assert len(found.splitlines()) == 5
    assert list(complaints(tmp_path / "nothing")) == [f"{tmp_path / 'nothing'}: there are no pages"]


# The files at the root


def test_the_changelog_keeps_its_form():
    text = (ROOT / "CHANGELOG.md").read_text()

    releases = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    kinds = re.findall(r"^### (.*)$", text, flags=re.MULTILINE)

    assert releases[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", release) for release in releases[1:])
    assert set(kinds) <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}
    assert [name for name in re.findall(r"\]\(((?:docs/)?[\w./-]+\.md)", text) if not (ROOT / name).exists()] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "AGENTS.md"])
def test_what_contributors_are_told_to_run_is_there(name: str):
    text = (ROOT / name).read_text()
    sessions = set(re.findall(r"^def (\w+)\(session", (ROOT / "noxfile.py").read_text(), flags=re.MULTILINE))

    named = {word.partition("-3.")[0] for words in re.findall(r"nox -s ((?:[a-z][\w.-]* ?)+)", text) for word in words.split()}
    paths = set(re.findall(r"(?<![\w/.])((?:docket|docs|tests|examples)/[\w./-]*\w)", text))

    assert named <= sessions
    for path in paths:
        assert "NAME" in path or os.path.lexists(ROOT / path) or path.startswith("docs/_site"), path
    for path in re.findall(r"\]\(([^)#:]+)", text):
        assert (ROOT / path).exists(), path


def test_the_glossary_is_in_order():
    words = re.findall(r"^### (.*)$", (DOCS / "glossary.md").read_text(), flags=re.MULTILINE)

    assert words == sorted(words, key=str.lower)
    assert len(words) > 25
