"""What the tests of the testing kit can ask for besides the fixtures of `tests/conftest.py`."""

from __future__ import annotations

import pytest

from docket.testing import MovableClock


@pytest.fixture
def clock() -> MovableClock:
    """This is the clock of `timed`, as users have it: it runs."""
    return MovableClock()
