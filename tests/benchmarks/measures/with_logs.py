"""The throughput measure with plain INFO lines in a file, set up as `docket worker --logging-format plain > file` does."""

from __future__ import annotations

import logging
import sys
import tempfile

import throughput
from support import NotAsExpected, Report, Settings, run_measure

from docket.cli._logging import set_up_logging

LINES_A_TASK = 2


async def measure(settings: Settings) -> Report:
    """This measures tasks per second in and out, and sees to it that they were logged."""
    with tempfile.TemporaryFile("w+") as file:
        output, sys.stdout = sys.stdout, file
        try:
            set_up_logging("INFO", "plain")
        finally:
            sys.stdout = output
        logging.disable(logging.NOTSET)
        report = await throughput.measure(settings)
        file.seek(0)
        logged = sum("nothing(...)" in line for line in file)
    if logged != LINES_A_TASK * settings.n:
        msg = f"{logged} lines tell of {settings.n} tasks"
        raise NotAsExpected(msg)
    return report


if __name__ == "__main__":
    run_measure(measure)
