"""From a function to its plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from docket.dependencies._base import Dependency
from docket.dependencies._declarations import Declarations
from docket.dependencies._plan import Plan

__all__ = ["Plan", "compile_plan"]


def compile_plan(function: Callable[..., Any], name: str, declared: Sequence[Dependency] = ()) -> Plan:
    """This reads a function and what its decorators declared, checks it, and gives the plan that serves all its runs.

    Raises `InvalidOption` (a ValueError) for two behaviours of a single kind and for dependencies that cannot work, `CycleError` for a circle.
    """
    return Plan(function, name, Declarations(function, name, declared))
