"""Testing tasks: run one at once (`run_task`), look at what is scheduled (`assert_...`), run what is due (`drain`), move time (`MovableClock`).

`docs/testing.md` tells how. pytest's fixtures are in `docket.testing.plugin`, which pytest finds by itself; this imports nothing until it is used,
because every test run of everybody who has docket installed imports it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from docket.testing._asserts import assert_no_tasks, assert_task_count, assert_task_not_scheduled, assert_task_scheduled
    from docket.testing._clock import MovableClock
    from docket.testing._drain import Drain, drain
    from docket.testing._run_task import run_task
    from docket.testing._runs import LogLine, ProgressReport, TaskProgress, TaskRun

__all__ = [
    "Drain",
    "LogLine",
    "MovableClock",
    "ProgressReport",
    "TaskProgress",
    "TaskRun",
    "assert_no_tasks",
    "assert_task_count",
    "assert_task_not_scheduled",
    "assert_task_scheduled",
    "drain",
    "run_task",
]

_HOMES = {
    "_asserts": ("assert_no_tasks", "assert_task_count", "assert_task_not_scheduled", "assert_task_scheduled"),
    "_clock": ("MovableClock",),
    "_drain": ("Drain", "drain"),
    "_run_task": ("run_task",),
    "_runs": ("LogLine", "ProgressReport", "TaskProgress", "TaskRun"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = globals()[name] = getattr(import_module(f"{__name__}.{home}"), name)
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
