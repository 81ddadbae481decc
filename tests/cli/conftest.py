"""Fixtures for tests that run the command line."""

from pathlib import Path

import pytest

from tests._servers import RedisServer
from tests.cli._command import Command


@pytest.fixture
def docket_command(tmp_path: Path) -> Command:
    """`python -m docket`, in this test's own empty folder."""
    return Command(tmp_path)


@pytest.fixture
def pointed(redis_server: RedisServer, docket_name: str, docket_command: Command) -> Command:
    """`python -m docket`, pointed at this test's docket on the real server."""
    return docket_command.with_variables({"DOCKET_URL": redis_server.url, "DOCKET_NAME": docket_name})
