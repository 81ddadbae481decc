"""What pytest-asyncio runs of our fixtures: for each scope that the event loop of a test may have, the two that have to run in that loop."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import TYPE_CHECKING, Any, Literal

import pytest_asyncio

from docket.testing._homes import entered_docket, entered_worker

if TYPE_CHECKING:
    from docket.docket import Docket
    from docket.worker import Worker

_Scope = Literal["function", "class", "module", "package", "session"]

_SCOPES: tuple[_Scope, ...] = ("function", "class", "module", "package", "session")


def _docket_in(scope: _Scope) -> Callable[..., Any]:
    @pytest_asyncio.fixture(loop_scope=scope, name=f"_docket_entered_by_asyncio_in_{scope}")
    async def entered(_docket_in_memory: Docket) -> AsyncGenerator[Docket, None]:
        async with entered_docket(_docket_in_memory) as docket:
            yield docket

    return entered


def _worker_in(scope: _Scope) -> Callable[..., Any]:
    @pytest_asyncio.fixture(loop_scope=scope, name=f"_docket_worker_entered_by_asyncio_in_{scope}")
    async def entered(docket: Docket) -> AsyncGenerator[Worker, None]:
        async with entered_worker(docket) as worker:
            yield worker

    return entered


for _scope in _SCOPES:
    globals()[f"docket_in_{_scope}"] = _docket_in(_scope)
    globals()[f"worker_in_{_scope}"] = _worker_in(_scope)
