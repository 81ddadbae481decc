"""Django: a docket made of the settings, scheduling when a transaction commits, and workers as a management command.

In `settings.py`: `INSTALLED_APPS = [..., "docket.integrations.django"]` and `DOCKET = {"NAME": "shop", "URL": "redis://..."}`. In the `tasks.py` of an
app: `from docket.integrations.django import docket`, and `@docket.task`. The workers: `python manage.py docketworker`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from docket.integrations._extras import not_installed

try:
    from docket.integrations.django._connections import DatabaseConnections
    from docket.integrations.django._docket import get_docket, worker_options
    from docket.integrations.django._on_commit import schedule_on_commit
except ImportError as exc:
    raise not_installed("django", exc, "django", "asgiref") from exc

if TYPE_CHECKING:
    from docket.docket import Docket

    docket: Docket
    """The project's docket, which `get_docket` makes when this is first imported."""

__all__ = ["DatabaseConnections", "dependencies", "docket", "get_docket", "schedule_on_commit", "worker_options"]

dependencies = [DatabaseConnections()]
"""What a worker puts around every task: `docket worker --dependencies docket.integrations.django:dependencies`."""


def __getattr__(name: str) -> Any:
    if name == "docket":  # made when it is first asked for, as it needs the settings
        return get_docket()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
