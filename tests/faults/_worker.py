"""One worker process of the fault test: `python -m tests.faults._worker` with its settings as JSON. The driver starts it and does to it what it likes."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

from docket import Worker
from tests.faults._bodies import open_log
from tests.faults._log import Log

CONCURRENCY = 6
GRACE = 1.0
CLEANUP = 2.0
BEAT = 0.05


def watch(log: Log, notable: float, parent: int) -> None:
    """This writes down when this process stood still, for whatever reason: it could not renew its lease then. It ends with the driver."""
    while os.getppid() == parent:
        before = time.monotonic()
        time.sleep(BEAT)
        if time.monotonic() - before > BEAT + notable:
            log.write("stall", began=before)
    os._exit(1)


async def main(settings: dict[str, Any]) -> None:
    """This runs a worker until it is told to stop."""
    log = Log(Path(settings["log"]), settings["name"])
    open_log(log)
    lease = settings["lease"]
    threading.Thread(target=watch, args=(log, lease / 8, settings["driver"]), daemon=True).start()
    log.write("up", code=settings["code"])
    await Worker.run(
        docket_name=settings["docket"],
        url=settings["url"],
        name=settings["name"],
        tasks=[f"tests.faults._tasks_{settings['code']}:tasks"],
        concurrency=CONCURRENCY,
        redelivery_timeout=timedelta(seconds=lease),
        reconnection_delay=timedelta(seconds=0.25),
        grace_period=timedelta(seconds=GRACE),
        cleanup_timeout=timedelta(seconds=CLEANUP),
        max_deliveries=settings["max_deliveries"],
    )
    log.write("down")


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, format="%(asctime)s.%(msecs)03d %(levelname)s %(message)s", datefmt="%H:%M:%S")
    asyncio.run(main(json.loads(sys.argv[1])))
