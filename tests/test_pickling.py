"""Dockets and handles travel by name."""

from __future__ import annotations

import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import cloudpickle  # pyright: ignore[reportMissingTypeStubs]
import pytest

import docket as package
from docket import Docket, Scheduler
from docket.errors import NoDocket, UnknownTask


async def send(number: int) -> None: ...


ambient = package.task(send)


def test_a_docket_pickles_by_name_and_takes_no_url_along():
    docket = Docket("pickled", url="redis://:secret@localhost/0")

    data = pickle.dumps(docket)

    assert b"secret" not in data
    assert pickle.loads(data) is docket


def test_a_handle_pickles_by_name():
    docket = Docket("pickled")
    handle = docket.task(send)

    assert pickle.loads(pickle.dumps(handle)) is handle
    assert pickle.loads(cloudpickle.dumps(handle)) is handle  # pyright: ignore[reportUnknownMemberType]


def test_a_handle_of_a_local_function_pickles_too():
    docket = Docket("pickled")

    @docket.task(name="local.task")
    def local() -> None: ...

    assert pickle.loads(pickle.dumps(local)) is local


def test_an_unbound_handle_pickles_by_the_module_that_declares_it():
    found = pickle.loads(pickle.dumps(ambient))

    assert (found.name, found.function) == ("send", send)


def test_a_scheduler_pickles_with_its_key():
    docket = Docket("pickled")
    scheduler = pickle.loads(pickle.dumps(docket.add(send, key="k")))

    assert isinstance(scheduler, Scheduler)
    assert scheduler.docket is docket
    assert scheduler.call(1).key == "k"


def test_a_handle_that_is_known_nowhere_says_so():
    @package.task
    def local() -> None: ...

    with pytest.raises(UnknownTask, match="handles travel by name"):
        pickle.loads(pickle.dumps(local))


def test_a_docket_that_is_known_nowhere_says_so():
    data = pickle.dumps(Docket("pickled")).replace(b"pickled", b"unknown")

    with pytest.raises(NoDocket, match="'unknown'"):
        pickle.loads(data)


def test_another_process_imports_the_module_that_makes_the_docket(tmp_path: Path):
    (tmp_path / "shop.py").write_text(
        textwrap.dedent("""
        from docket import Docket

        docket = Docket("shop")

        @docket.task(name="shop.send")
        async def send(number: int) -> None: ...
        """)
    )

    def python(code: str) -> str:
        return subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True).stdout.strip()

    data = python("import shop, pickle; print(pickle.dumps(shop.send).hex())")

    assert python(f"import pickle; task = pickle.loads(bytes.fromhex('{data}')); import shop; print(task is shop.send)") == "True"
