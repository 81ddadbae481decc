"""The application that INSTALLED_APPS names: it imports the `tasks` module of every other one."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules

__all__ = ["DocketConfig"]


class DocketConfig(AppConfig):
    """This is docket, as an application of a Django project."""

    name = "docket.integrations.django"
    label = "docket"
    verbose_name = "docket"

    def ready(self) -> None:
        """This imports `tasks.py` of every installed application, so that its tasks are known wherever they are scheduled or run."""
        autodiscover_modules("tasks")
