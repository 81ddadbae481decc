"""The package as a whole: its names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import docket
from docket import testing


def test_every_public_name_is_there():
    for name in docket.__all__:
        assert getattr(docket, name) is not None
    assert set(docket.__all__) <= set(dir(docket))


def test_every_public_name_is_declared_once_for_type_checkers_and_once_for_the_import():
    homes, modules = docket._HOME_OF, docket._MODULES  # pyright: ignore[reportPrivateUsage]

    assert {*homes, *modules} == set(docket.__all__)


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'docket' has no attribute 'Dockte'"):
        getattr(docket, "Dockte")  # noqa: B009 - what is asked for is the error


def test_the_testing_kit_is_imported_by_name_too():
    assert docket.testing is testing
    for name in testing.__all__:
        assert getattr(testing, name) is not None
    assert set(testing.__all__) <= set(dir(testing))
    with pytest.raises(AttributeError, match="module 'docket.testing' has no attribute 'run_tsak'"):
        getattr(testing, "run_tsak")  # noqa: B009 - what is asked for is the error


def test_importing_the_package_imports_nothing_heavy():
    code = "import docket, docket.testing, sys; print(sorted({'redis', 'opentelemetry', 'structlog', 'anyio', 'cloudpickle'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"


def test_the_testing_kit_is_imported_when_it_is_asked_for():
    asked = docket.__getattr__("testing")

    assert asked.__name__ == "docket.testing"
