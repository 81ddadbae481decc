"""What the tests of workers share."""

from __future__ import annotations

import pytest

from docket import Docket
from tests.worker._hands import Long


@pytest.fixture
async def long(docket: Docket) -> Long:
    """This is a task of the docket that lasts until it is let go."""
    return Long(docket)
