"""The same tasks, as the version after the deploy has them: it knows one task more, and one of them has a parameter more."""

from __future__ import annotations

import asyncio
from typing import Any

from docket import CurrentExecution, Execution
from tests.faults import _tasks_old
from tests.faults._bodies import recorded


async def steady(seconds: float, padding: str, flavour: str = "plain", run: Execution[Any] = CurrentExecution()) -> None:
    async with recorded(run, flavour=flavour):
        await asyncio.sleep(seconds)


async def newcomer(seconds: float, run: Execution[Any] = CurrentExecution()) -> None:
    async with recorded(run):
        await asyncio.sleep(seconds)


tasks = [steady, newcomer, *(task for task in _tasks_old.tasks if task is not _tasks_old.steady)]
