"""Fixtures for tests that run the command line."""

from pathlib import Path

import pytest

from tests.cli._command import Command


@pytest.fixture
def docket_command(tmp_path: Path) -> Command:
    """`python -m docket`, in this test's own empty folder."""
    return Command(tmp_path)
