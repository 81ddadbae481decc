"""`module:member` to object, and the errors on the way."""

import os.path
import sys
from pathlib import Path

import pytest

from docket._loading import did_you_mean, load
from docket.errors import LoadError


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module of this test's own, on the import path; its name cannot be in `sys.modules` yet."""
    name = f"my_tasks_{tmp_path.name}"
    (tmp_path / f"{name}.py").write_text("class Box:\n    inner = 'found'\n\nsend = 1\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    return name


def write(folder: Path, source: str) -> str:
    name = f"broken_{folder.name}"
    (folder / f"{name}.py").write_text(source)
    return name


def test_a_path_gives_its_member():
    assert load("os.path:join") is os.path.join


def test_a_member_may_be_dotted(module: str):
    assert load(f"{module}:Box.inner") == "found"


@pytest.mark.parametrize("path", ["", "os", ":join", "os:", "os:a:b", "os/path:join", "os.:join", "os:.join", "os:my-member"])
def test_a_path_of_another_form_is_told_the_form(path: str):
    with pytest.raises(LoadError, match="write module:member, such as my_tasks:tasks"):
        load(path)


def test_a_missing_member_is_told_its_likely_name(module: str):
    with pytest.raises(LoadError, match=rf"^Cannot load '{module}:sned': no 'sned' in module '{module}'; did you mean 'send'\?$"):
        load(f"{module}:sned")


def test_a_missing_inner_member_names_its_owner(module: str):
    with pytest.raises(LoadError, match=f"no 'iner' in 'Box' of module '{module}'; did you mean 'inner'"):
        load(f"{module}:Box.iner")


def test_a_member_like_no_other_is_told_what_there_is(module: str):
    with pytest.raises(LoadError, match=r"no 'quux' in .*; it has Box, send$"):
        load(f"{module}:quux")


def test_only_the_first_members_of_many_are_told():
    with pytest.raises(LoadError, match=r"no 'qqqqqqqq' in module 'os'; it has (\w+, ){10}\.\.\.$"):
        load("os:qqqqqqqq")


def test_an_empty_module_is_told_to_be_empty(module: str, tmp_path: Path):
    name = write(tmp_path, "")

    with pytest.raises(LoadError, match="it has no public members"):
        load(f"{name}:tasks")


def test_a_missing_module_is_told_its_likely_name():
    with pytest.raises(LoadError, match="^Cannot load 'jsno:dumps': there is no module 'jsno'; did you mean 'json'"):
        load("jsno:dumps")


def test_a_missing_submodule_is_told_its_likely_name():
    with pytest.raises(LoadError, match=r"there is no module 'docket\.erors'; did you mean 'errors'"):
        load("docket.erors:DocketError")


def test_a_missing_module_like_no_other_is_told_where_to_look():
    with pytest.raises(LoadError, match=r"there is no module 'zzqxxqzz'; is its folder the current one"):
        load("zzqxxqzz:tasks")


def test_a_module_below_one_that_is_no_package_is_missing(module: str):
    with pytest.raises(LoadError, match=f"there is no module '{module}.inner'"):
        load(f"{module}.inner:tasks")


def test_a_module_that_imports_what_is_missing_is_not_missing_itself(module: str, tmp_path: Path):
    name = write(tmp_path, "import zzqxxqzz\n")

    with pytest.raises(LoadError, match=f"module '{name}' was found, and importing it raised ModuleNotFoundError: .*zzqxxqzz.* line 1\\)$"):
        load(f"{name}:tasks")


def test_an_error_inside_the_module_is_told_with_its_place_and_kept(module: str, tmp_path: Path):
    name = write(tmp_path, "\n\n1 / 0\n")

    with pytest.raises(LoadError, match=rf"importing it raised ZeroDivisionError: division by zero \(.*{name}\.py, line 3\)$") as caught:
        load(f"{name}:tasks")

    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_syntax_error_is_told_with_its_place(module: str, tmp_path: Path):
    name = write(tmp_path, "x = 1\ndef (:\n")

    with pytest.raises(LoadError, match=rf"importing it raised SyntaxError: .*{name}\.py, line 2\)$"):
        load(f"{name}:tasks")


def test_a_load_error_is_an_import_error():
    with pytest.raises(ImportError):
        load("zzqxxqzz:tasks")


def test_no_suggestion_is_made_when_nothing_comes_close():
    assert did_you_mean("send", ["receive"]) == ""
    assert did_you_mean("sned", ["receive", "send"]) == "; did you mean 'send'?"
