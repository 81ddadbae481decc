"""`manage.py docketworker`: a worker of the project's docket, with what its settings say."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from django.core.management.base import BaseCommand

from docket.cli._logging import FORMATS, LEVELS, set_up_logging
from docket.cli._options import run
from docket.integrations.django import worker_options
from docket.worker import Worker

if TYPE_CHECKING:
    from django.core.management.base import CommandParser

__all__ = ["Command"]

_HOME = "docket.integrations.django"


class Command(BaseCommand):
    """This runs the tasks of every installed application."""

    help = (
        "Run tasks of the project's docket, until SIGTERM or SIGINT. Options that are not given are those of settings.DOCKET['WORKER']. "
        "Told to stop, the worker finishes what is running, for its GRACE_PERIOD at most, and hands the rest back to the others."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        """This says what can be told on the command line; the rest stands in the settings."""
        parser.add_argument("--name", help="The name of this worker (host#pid).")
        parser.add_argument("--concurrency", type=int, help="How many tasks run at the same time (10).")
        parser.add_argument("--threads", type=int, help="How many synchronous functions run in threads at the same time (as many as --concurrency).")
        parser.add_argument("--until-finished", action="store_true", help="Leave when nothing that this worker can run is left.")
        parser.add_argument("--healthcheck-port", type=int, help="Answer health checks here: /livez, and /readyz (and /).")
        parser.add_argument("--metrics-port", type=int, help="Serve Prometheus metrics here.")
        parser.add_argument("--logging-level", type=str.upper, choices=LEVELS, default="INFO", help="Where LOGGING sets up none: what to log (INFO).")
        parser.add_argument("--logging-format", choices=FORMATS, help="The same: how a line looks (rich on a terminal, else plain).")

    def handle(self, *args: Any, **options: Any) -> None:
        """This runs the worker."""
        if not (logging.getLogger().handlers or logging.getLogger("docket").handlers):
            set_up_logging(options["logging_level"], options["logging_format"])
        names = ("name", "concurrency", "threads", "healthcheck_port", "metrics_port")
        given = {name: options[name] for name in names if options[name] is not None}
        settings = {**worker_options(), **given}
        run(Worker.run(tasks=[f"{_HOME}:docket"], dependencies=f"{_HOME}:dependencies", until_finished=options["until_finished"], **settings))
