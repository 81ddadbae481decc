"""How it is told that dependencies could not be resolved."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from docket.dependencies._steps import Recipe
from docket.errors import DependencyFailed

if sys.version_info < (3, 11):  # pragma: no cover - the default Python is newer
    from exceptiongroup import ExceptionGroup

__all__ = ["FailedDependency", "failure_of"]


@dataclass(frozen=True)
class FailedDependency:
    """This is one parameter whose dependency could not be resolved, and why."""

    parameter: str
    """The parameter of the task, or of one of its dependencies."""
    error: Exception
    """Why there is no value for it."""


def failure_of(recipe: Recipe, failures: Mapping[int, Exception]) -> DependencyFailed:
    """This makes the error that a run fails with. Its cause is the original error, or a group of them."""
    named = {index for _, index in recipe.targets}
    besides = [(name, index) for name, index in recipe.besides if index not in named]
    failed = [FailedDependency(name, failures[index]) for name, index in (*recipe.targets, *besides) if index in failures]
    summary = f"Failed to resolve dependencies for parameter(s): {', '.join(one.parameter for one in failed)}"
    errors = list({id(one.error): one.error for one in failed}.values())
    failure = DependencyFailed(f"{summary} ({'; '.join(f'{type(error).__name__}: {error}' for error in errors)})")
    failure.__cause__ = errors[0] if len(errors) == 1 else ExceptionGroup(summary, errors)
    return failure
