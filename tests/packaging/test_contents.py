"""The rules of what a wheel and an sdist have find what is missing and what should not be there. `nox -s package` holds the real ones against them."""

from __future__ import annotations

import io
import shutil
import subprocess
import tarfile
import zipfile
from pathlib import Path

import pytest

from tests.packaging.__main__ import BASE, MOST, Failed, check_imports
from tests.packaging._contents import METADATA, in_sdist, in_wheel, sdist_differs, wheel_differs

ROOT = Path(__file__).parent.parent.parent
PACKAGE = ["docket/__init__.py", "docket/py.typed", "docket/lua/add.lua"]
OTHERS = ["README.md", "tests/test_it.py"]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    if shutil.which("git") is None:
        pytest.skip("what belongs to an sdist is asked of git")
    root = tmp_path / "tree"
    for name in [*PACKAGE, *OTHERS, ".ci/run", "docket/__pycache__/x.pyc"]:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    (root / ".gitignore").write_text("__pycache__/\n")
    subprocess.run(["git", "init", "--quiet"], cwd=root, check=True)
    return root


def wheel(folder: Path, *names: str) -> Path:
    path = folder / "it-1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name in [*names, *(f"it-1.0.dist-info/{each}" for each in METADATA)]:
            archive.writestr(name, "")
    return path


def sdist(folder: Path, *names: str) -> Path:
    path = folder / "it-1.0.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name in names:
            archive.addfile(tarfile.TarInfo(f"it-1.0/{name}"), io.BytesIO())
    return path


def test_a_wheel_that_has_the_package_and_nothing_else_is_right(tree: Path):
    assert wheel_differs(wheel(tree.parent, *PACKAGE), tree) == []


def test_a_wheel_that_lacks_a_script_or_has_a_test_is_wrong(tree: Path):
    found = wheel_differs(wheel(tree.parent, "docket/__init__.py", "docket/py.typed", "tests/test_it.py"), tree)

    assert found == ["it-1.0-py3-none-any.whl misses docket/lua/add.lua", "it-1.0-py3-none-any.whl should not have tests/test_it.py"]


def test_a_file_of_an_unknown_kind_in_the_package_is_wrong(tree: Path):
    (tree / "docket" / "notes.txt").touch()

    assert wheel_differs(wheel(tree.parent, *PACKAGE), tree) == ["docket/ has a file of a kind that the package does not know: docket/notes.txt"]


def test_an_sdist_has_all_that_git_knows_but_our_ci(tree: Path):
    everything = [*PACKAGE, *OTHERS, ".gitignore", "PKG-INFO"]

    assert sdist_differs(sdist(tree.parent, *everything), tree) == []
    assert sdist_differs(sdist(tree.parent, *everything[1:], ".ci/run"), tree) == [
        "it-1.0.tar.gz misses docket/__init__.py",
        "it-1.0.tar.gz should not have .ci/run",
    ]


def test_the_package_of_this_tree_has_its_scripts_and_its_types():
    names = in_wheel(ROOT)

    assert {"docket/__init__.py", "docket/py.typed", "docket/integrations/django/management/commands/docketworker.py"} <= names
    assert len([name for name in names if name.endswith(".lua")]) > 20
    assert not [name for name in names if "__pycache__" in name]


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="not a clone")
def test_the_sdist_of_this_tree_has_its_tests_and_its_site():
    assert {"tests/conftest.py", "docs/index.md", "mkdocs.yml", "noxfile.py", "pyproject.toml", "LICENSE"} <= in_sdist(ROOT)


def test_an_import_that_takes_too_long_is_told(capsys: pytest.CaptureFixture[str]):
    check_imports({BASE: 1.0, **MOST})

    with pytest.raises(Failed, match="importing docket takes 1.60 x as long"):
        check_imports({BASE: 1.0, **MOST, "docket": 1.6})
    assert "importing docket: 1600 ms" in capsys.readouterr().out
