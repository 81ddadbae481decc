"""The package as a whole: its names, and what importing it costs."""

from __future__ import annotations

import subprocess
import sys

import pytest

import docket


def test_every_public_name_is_there():
    for name in docket.__all__:
        assert getattr(docket, name) is not None
    assert set(docket.__all__) <= set(dir(docket))


def test_every_public_name_is_declared_once_for_type_checkers_and_once_for_the_import():
    homes = docket._HOME_OF  # pyright: ignore[reportPrivateUsage]

    assert set(homes) == set(docket.__all__)


def test_another_name_is_an_error():
    with pytest.raises(AttributeError, match="module 'docket' has no attribute 'Dockte'"):
        getattr(docket, "Dockte")  # noqa: B009 - what is asked for is the error


def test_importing_the_package_imports_nothing_heavy():
    code = "import docket, sys; print(sorted({'redis', 'opentelemetry', 'structlog', 'anyio', 'cloudpickle'} & set(sys.modules)))"

    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == "[]"
