"""The docket of a Django project, made of its settings."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import fields
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured

from docket._loading import did_you_mean, load_option
from docket._options import DocketOptions, WorkerOptions
from docket.docket import Docket
from docket.errors import DocketError

__all__ = ["get_docket", "worker_options"]

_WORKER = "WORKER"


@functools.cache
def get_docket() -> Docket:
    """This gives the project's docket, one in a process, made of `settings.DOCKET`: the options of `Docket`, in capitals. Raises `ImproperlyConfigured`.

    `DOCKET = {"NAME": "shop", "URL": "redis://localhost:6379/0", "EXECUTION_TTL": timedelta(hours=1)}`. What is an object may be named, as
    `"module:member"`. Workers take `DOCKET["WORKER"]`, the options of `Worker`.
    """
    given = {name: value for name, value in _settings().items() if name != _WORKER}
    options = _options("DOCKET", given, [field.name for field in fields(DocketOptions)])
    try:
        return Docket(**{name: load_option(name, value) for name, value in options.items()})
    except DocketError as exc:
        raise ImproperlyConfigured(f"settings.DOCKET: {exc}") from exc


def worker_options() -> dict[str, Any]:
    """This gives what `settings.DOCKET["WORKER"]` says, as `Worker` takes it. Raises `ImproperlyConfigured`."""
    return _options(f"DOCKET[{_WORKER!r}]", _settings().get(_WORKER, {}), [field.name for field in fields(WorkerOptions)])


def _settings() -> Mapping[str, Any]:
    found: object = getattr(settings, "DOCKET", {})
    if not isinstance(found, Mapping):
        raise ImproperlyConfigured(
            f"settings.DOCKET is a {type(found).__name__}; give a dictionary, such as {{'NAME': 'shop', 'URL': 'redis://localhost:6379/0'}}"
        )
    return cast("Mapping[str, Any]", found)


def _options(where: str, given: Mapping[str, Any], known: list[str]) -> dict[str, Any]:
    capitals = [name.upper() for name in known]
    for name in given:
        if name not in capitals:
            hint = did_you_mean(name.upper(), capitals) or "; there are " + ", ".join(capitals)
            raise ImproperlyConfigured(f"settings.{where} has no option {name!r}{hint}")
    return {name.lower(): value for name, value in given.items()}
