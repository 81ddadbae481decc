"""The pages about migrating: what they show of other libraries is found and run, by `nox -s migrating`, and stands beside what it becomes."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.migrating.__main__ import BLOCK, SERVICES, commands_of, files_of

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted((ROOT / "docs").glob("migrating-from-*.md"))
LIBRARY_OF = {page: page.stem.removeprefix("migrating-from-") for page in PAGES}

every_page = pytest.mark.parametrize("page", PAGES, ids=LIBRARY_OF.get)


def test_nox_has_an_environment_for_each_page():
    assigned = [node for node in ast.parse((ROOT / "noxfile.py").read_text()).body if isinstance(node, ast.Assign)]
    (installed,) = [ast.literal_eval(node.value) for node in assigned if ast.unparse(node.targets[0]) == "PREDECESSORS"]

    assert set(installed) == set(LIBRARY_OF.values())
    assert all(any(name.startswith(library) for name in names) for library, names in installed.items())


@every_page
def test_a_block_with_a_title_is_the_librarys_and_is_found(page: Path):
    titles = re.findall(r"^ *```(?:\w+) title=", page.read_text(), flags=re.MULTILINE)
    found = list(BLOCK.finditer(page.read_text()))

    assert len(found) == len(titles) > 5
    assert {block["library"].lower() for block in found} == {LIBRARY_OF[page]}
    assert all(block["file"] or block["language"] == "sh" for block in found)


@every_page
def test_it_shows_tasks_calls_of_them_a_test_and_a_worker(page: Path):
    files = files_of(page)

    assert {"tasks.py", "calls.py", "test_tasks.py"} < set(files)
    assert any(SERVICES.search(command) for command in commands_of(page))
    for name, text in files.items():
        compile(text, name, "exec")


@every_page
def test_code_before_stands_beside_code_after(page: Path):
    before = [block["text"] for block in BLOCK.finditer(page.read_text()) if block["language"] == "python"]
    after = re.findall(r"^```python\n(.*?)^```$", page.read_text(), flags=re.MULTILINE | re.DOTALL)

    defined = [set(re.findall(r"^(?:async )?def (\w+)", "\n".join(blocks), flags=re.MULTILINE)) for blocks in (before, after)]
    assert len(defined[0] & defined[1]) >= 5


@every_page
def test_it_has_a_table_of_words_what_differs_and_the_way_of_a_running_system(page: Path):
    headings = set(re.findall(r"^## (.*)$", page.read_text(), flags=re.MULTILINE))

    assert {"The words", "Testing", "Moving a running system"} <= headings
    assert headings & {"What may surprise you", "What is different"}
