"""What every docket does, in a cluster and under sentinels: a small part of the fundamentals, and all that can be done with a docket.

All of tests/store, tests/lua and tests/fundamentals run there with `DOCKET_TESTS_TOPOLOGY` (`nox -s matrix`).
"""

from __future__ import annotations

from docket import Docket, Worker
from tests.fundamentals.conftest import running_worker
from tests.fundamentals.test_batches import *  # noqa: F403 - its tests run here as well
from tests.fundamentals.test_chains import *  # noqa: F403 - see above
from tests.fundamentals.test_clearing import *  # noqa: F403 - see above
from tests.fundamentals.test_limits import *  # noqa: F403 - see above
from tests.fundamentals.test_results import *  # noqa: F403 - see above
from tests.fundamentals.test_retries import *  # noqa: F403 - see above
from tests.test_acl import everything

__all__ = ["running_worker"]

BACKENDS = ("cluster", "sentinel")


async def test_everything_can_be_done(docket: Docket, worker: Worker):
    await everything(docket, worker)
