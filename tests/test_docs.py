"""The guides tell the truth: their Python runs as it stands."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import click
import pytest
import yaml

from docket.__main__ import app
from docket._redis.urls import SCHEMES, parse
from docket.execution import InterruptionEvent, ProgressEvent, StateEvent
from tests._servers import RedisServer

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.yml"))]


@pytest.mark.parametrize("page", ["connecting", "dependencies", "flow-control", "guarantees", "operating", "payloads", "scaling", "security"])
def test_the_python_of_a_guide_runs(page: str, tmp_path: Path):
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / f"{page}.md").read_text(), flags=re.MULTILINE | re.DOTALL)
    program = tmp_path / "guide.py"
    program.write_text("\n".join(blocks))

    done = subprocess.run(
        [sys.executable, "-W", "error", str(program)], cwd=tmp_path, env={"PYTHONPATH": str(DOCS.parent)}, capture_output=True, text=True, check=False
    )

    assert blocks
    assert done.returncode == 0, done.stderr


def test_every_url_of_the_guide_to_connecting_is_one():
    page = (DOCS / "connecting.md").read_text()
    urls = re.findall(r"^\| `([a-z+]+://[^`]*)`", page, flags=re.MULTILINE)

    assert {parse(url).topology for url in urls} == {"server", "sentinel", "cluster", "embedded", "memory"}
    assert {scheme for scheme in SCHEMES if f"{scheme}://" not in page} == set()


def test_the_guide_to_testing_is_a_suite_that_passes(tmp_path: Path, redis_server: RedisServer):
    """Its blocks say which file they are part of."""
    files: dict[str, str] = {}
    for name, block in re.findall(r"^```\w+\n# (\S+)\n(.*?)^```$", (DOCS / "testing.md").read_text(), flags=re.MULTILINE | re.DOTALL):
        files[name] = files.get(name, "") + block
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "anyio_on_asyncio.py").write_text("import pytest\n\n@pytest.fixture(scope='session')\ndef anyio_backend():\n    return 'asyncio'\n")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:asyncio", "-p", "no:xdist", "-p", "anyio_on_asyncio"],
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{DOCS.parent}", "REDIS_URL": redis_server.url},
        capture_output=True,
        text=True,
        check=False,
    )

    tests = sum(len(re.findall(r"^(?:async )?def test_", text, flags=re.MULTILINE)) for text in files.values())
    assert tests > 10
    assert f"{tests} passed" in done.stdout, done.stdout + done.stderr
    assert (DOCS / "testing.md").read_text().count("```python\n#") == (DOCS / "testing.md").read_text().count("```python\n")


def commands() -> Iterator[tuple[str, str]]:
    """This is every `docket ...` that the documentation tells readers to type, in blocks and in sentences, with its page."""
    for page in PAGES:
        text = re.sub(r"{{.*?}}", "x", page.read_text())
        blocks = "\n".join(re.findall(r"^```sh\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL))
        for line in re.findall(r"^(?:\w+=\S+ )*(docket .*)$", blocks, flags=re.MULTILINE) + re.findall(r"`(docket [a-z][^`.=]*?)`", text):
            yield page.name, line


@pytest.mark.parametrize(("page", "line"), sorted(set(commands())))
def test_a_command_in_the_documentation_is_one(page: str, line: str):
    words = shlex.split(line.partition(" | ")[0], comments=True)
    command: click.Command = app
    context = click.Context(command, info_name=words.pop(0))
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name = words.pop(0)
        found = command.get_command(context, name)
        assert found is not None, f"there is no command {name}"
        command, context = found, click.Context(found, info_name=name, parent=context)

    if words and not isinstance(command, click.Group):  # in a sentence, a command may be named alone
        with suppress(click.exceptions.Exit):  # --help
            command.make_context(context.info_name, words, parent=context.parent)


def test_some_commands_were_found():
    found = [line for page, line in commands() if page == "operating.md"]

    assert len(found) > 30
    assert {"docket check", "docket strike '*' tenant == acme"} <= set(found)


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name)
def test_the_yaml_of_a_page_can_be_read(page: Path):
    for block in re.findall(r"^```ya?ml\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        assert yaml.safe_load(block)


@pytest.mark.parametrize("page", [page for page in PAGES if page.suffix == ".md"], ids=lambda page: page.name)
def test_every_link_of_a_page_leads_somewhere(page: Path):
    for path, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", page.read_text()):
        target = page.parent / path if path else page
        assert target.exists(), path
        if anchor:
            headings = re.findall(r"^#+ (.*)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_the_operating_guide_lists_the_fields_of_events():
    rows = re.findall(r'^\| `"type": "(\w+)"` \| (.*) \|$', (DOCS / "operating.md").read_text(), flags=re.MULTILINE)

    listed = {kind: ["type", *(name for name in re.findall(r"`(\w+)`", fields) if name.islower())] for kind, fields in rows}

    for kind, event in (("state", StateEvent), ("progress", ProgressEvent)):
        assert listed[kind] == list(event.__annotations__)
    assert [name for name in listed["interruption"] if name not in {"disconnected", "overflow", "undecodable"}] == list(InterruptionEvent.__annotations__)
