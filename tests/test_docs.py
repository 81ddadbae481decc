"""The guides tell the truth: their Python runs as it stands."""

from __future__ import annotations

import os
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
from docket_site.pages import complete
from tests._servers import RedisServer

DOCS = Path(__file__).parent.parent / "docs"
PAGES = [DOCS.parent / "README.md", *sorted(DOCS.rglob("*.md")), *sorted(DOCS.rglob("*.yml"))]


def python_of(page: Path) -> list[str]:
    """This gives the blocks of Python of a page, in order."""
    return re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)


def files_of(page: Path) -> dict[str, str]:
    """This puts the blocks of a page together that say, in their first line, which file they are part of."""
    files: dict[str, str] = {}
    for name, block in re.findall(r"^```\w+\n# (\S+\.\w+)\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL):
        files[name] = files.get(name, "") + block
    return files


OF_FILES = {page.stem for page in DOCS.glob("*.md") if files_of(page)}
PROGRAMS = sorted(page.stem for page in DOCS.glob("*.md") if python_of(page) and page.stem not in OF_FILES)


def test_a_page_is_one_program_or_made_of_files_that_a_test_knows():
    assert {"getting-started", "integrations", "testing"} == OF_FILES
    for page in OF_FILES:
        text = (DOCS / f"{page}.md").read_text()
        assert len(re.findall(r"^```python\n# \S+\.py$", text, flags=re.MULTILINE)) == len(python_of(DOCS / f"{page}.md"))


@pytest.mark.parametrize("page", PROGRAMS)
def test_the_python_of_a_guide_runs(page: str, tmp_path: Path):
    blocks = python_of(DOCS / f"{page}.md")
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
    files = files_of(DOCS / "testing.md")
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


@pytest.mark.skipif(sys.platform == "win32", reason="there is no server to embed")
def test_getting_started_is_what_a_newcomer_sees(tmp_path: Path):
    """Everything on that page is done as it says there, with the commands that it gives, in an empty directory."""
    page = (DOCS / "getting-started.md").read_text()
    for name, text in files_of(DOCS / "getting-started.md").items():
        (tmp_path / name).write_text(text)
    (worker_command,) = set(re.findall(r"^docket worker .*$", page, flags=re.MULTILINE))
    env = {"PATH": os.defpath, "PYTHONPATH": str(DOCS.parent)}
    shown = re.findall(r"^```text\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)

    def run(name: str) -> str:
        done = subprocess.run([sys.executable, "-W", "error", name], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert run("hello.py") == shown[0]
    words = [sys.executable, "-m", *shlex.split(worker_command)]
    with subprocess.Popen(words, cwd=tmp_path, env=env, stdout=subprocess.PIPE, text=True) as worker:
        try:
            assert run("order.py") == shown[1]
            assert "2 had not begun" in run("later.py")
        finally:
            worker.terminate()
            log, _ = worker.communicate()
    assert run("flaky.py") == shown[2]
    assert "↩ [" in log and "greeting who='Ada'" in log


OF_A_SHOP = {
    "shop/__init__.py": "",
    "shop/models.py": """
from django.db import models
class Order(models.Model):
    id = models.BigAutoField(primary_key=True)
    invoiced = models.BooleanField(default=False)
""",
    "manage.py": "import sys; from django.core.management import execute_from_command_line; execute_from_command_line(sys.argv)",
    "buys.py": """
import asyncio, django; django.setup()
from asgiref.sync import sync_to_async
from django.test import Client
from django.test.utils import setup_test_environment
from shop.tasks import docket, send_invoice
setup_test_environment()
assert Client().post("/buy").json() == {"order": 1}
async def view() -> str:
    return (await sync_to_async(docket.sync().add(send_invoice))(5)).key
assert docket.sync().get_execution(asyncio.run(view())).args == (5,)
""",
    "looks.py": """
import django; django.setup()
from shop.models import Order
from shop.tasks import docket
docket.sync().get_execution("invoice-1").get_result()
assert Order.objects.get().invoiced
""",
    "asks.py": """
from fastapi.testclient import TestClient
from web import app
with TestClient(app) as client:
    key = client.post("/reports", params={"customer": 5}).json()["report"]
    assert client.get(f"/reports/{key}").json() == "the report of customer 5"
""",
}


def test_the_guide_to_integrations_does_what_it_says(tmp_path: Path, redis_server: RedisServer):
    for name, text in {**files_of(DOCS / "integrations.md"), **OF_A_SHOP}.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    environment = {"PYTHONPATH": f"{tmp_path}:{DOCS.parent}", "DJANGO_SETTINGS_MODULE": "shop.settings", "DOCKET_URL": redis_server.url}

    def run(*words: str) -> str:
        done = subprocess.run([sys.executable, "-W", "error", *words], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert run("script.py") == "invoice-5 scheduled\n100 are ready\ninvoice-5 cancelled\n['invoice-7']\n36\n"
    run("asks.py")
    run("manage.py", "migrate", "--run-syncdb")
    run("buys.py")
    assert "send_invoice" in run(*shlex.split("manage.py docketworker --until-finished"))
    run("looks.py")
    run("worker.py")


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
    found = [line for page, line in commands() if page in {"monitoring.md", "advanced-patterns.md"}]

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
            headings = re.findall(r"^#+ (.*)$", complete(target.read_text(), DOCS.parent), flags=re.MULTILINE)
            assert anchor in {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}, anchor


def test_the_guide_to_results_lists_the_fields_of_events():
    rows = re.findall(r'^\| `"type": "(\w+)"` \| (.*) \|$', (DOCS / "results.md").read_text(), flags=re.MULTILINE)

    listed = {kind: ["type", *(name for name in re.findall(r"`(\w+)`", fields) if name.islower())] for kind, fields in rows}

    for kind, event in (("state", StateEvent), ("progress", ProgressEvent)):
        assert listed[kind] == list(event.__annotations__)
    assert [name for name in listed["interruption"] if name not in {"disconnected", "overflow", "undecodable"}] == list(InterruptionEvent.__annotations__)
