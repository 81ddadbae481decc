"""Makes the pictures of docs/images from the real thing: `python -m tests.screenshots`, under a minute.

A server, two workers and a producer run; `docket top` and `docket watch` show them in a terminal; what that terminal shows is drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncGenerator, Generator
from datetime import timedelta
from pathlib import Path

import pyte

from docket import Docket
from tests._servers import running_server
from tests.cli._command import Command, environment
from tests.cli._terminal import Terminal, open_terminal
from tests.screenshots._picture import DimScreen, svg
from tests.screenshots._shop import tasks

ROOT = Path(__file__).parent.parent.parent
NAME = "shop"
TOP, WATCH = (100, 30), (92, 12)
"""Columns and lines."""
ALBUM = "album-17"


@contextlib.contextmanager
def workers(url: str, folder: Path) -> Generator[None]:
    """Two workers run meanwhile."""
    variables = environment({"DOCKET_URL": url, "DOCKET_NAME": NAME, "PYTHONPATH": str(ROOT)})
    command = [sys.executable, "-m", "docket", "worker", "--tasks", "tests.screenshots._shop:tasks", "--concurrency", "8", "--name"]
    with (folder / "workers.log").open("w") as log:
        processes = [subprocess.Popen([*command, name], cwd=folder, env=variables, stdout=log, stderr=log) for name in ("ember", "cobalt")]
        try:
            yield
        finally:
            for process in processes:
                process.kill()  # what they run would take another minute
            for process in processes:
                process.wait()


@contextlib.asynccontextmanager
async def producing(docket: Docket) -> AsyncGenerator[None]:
    """Orders come meanwhile, in waves."""

    async def produce() -> None:
        for order in range(1_000_000):
            await docket.add("send_receipt", key=f"receipt-{order}")(order)
            if order % 40 == 0:
                await docket.add("charge", key=f"charge-{order // 40}")(order // 40)
            await asyncio.sleep(0.004 if order // 200 % 3 else 0.008)

    producer = asyncio.create_task(produce())
    try:
        yield
    finally:
        producer.cancel()
        await asyncio.wait([producer])


def opened(url: str, folder: Path, size: tuple[int, int], *words: str) -> Terminal:
    """This is a terminal that keeps what is dim, with a command in it."""
    columns, lines = size
    terminal = open_terminal(Command(folder), *words, columns=columns, lines=lines, env={"DOCKET_URL": url, "DOCKET_NAME": NAME})
    terminal.screen = DimScreen(columns, lines)
    terminal.stream = pyte.ByteStream(terminal.screen)
    return terminal


async def take(to: Path, seconds: float) -> None:
    """This makes both pictures."""
    with running_server() as server, tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        async with Docket(name=NAME, url=server.url) as docket:
            for task in tasks:
                docket.register(task)
            await docket.add("import_prices", key="import-prices")("prices.csv", 6_000)
            await docket.add("make_thumbnails", key=ALBUM)(17, 110)
            await docket.add("notify_partner", key="notify-204")(204)
            for order in range(40):
                await docket.add("send_receipt", when=timedelta(minutes=10 + order), key=f"reminder-{order}")(order)
            await docket.strike("charge", "order", "between", (900, 999))
            with workers(server.url, folder):
                async with producing(docket):
                    with opened(server.url, folder, TOP, "top", "--interval", "500ms") as top, opened(server.url, folder, WATCH, "watch", ALBUM) as watch:
                        await top.wait_for("import_prices", "make_thumbnails", "the bank does not answer", "on 2 of 2 workers", "Strikes 1 in effect")
                        await watch.wait_for("running for", "album 17")
                        for _ in range(round(20 * seconds)):  # so that there is a course of things to be seen
                            await asyncio.sleep(0.05)
                            top.read()
                            watch.read()  # what nobody reads holds them up
                        await top.wait_for("import_prices", "make_thumbnails", "ember", "cobalt")
                        await watch.wait_for("running for", "album 17")
                        to.mkdir(parents=True, exist_ok=True)
                        (to / "docket-top.svg").write_text(svg(top.screen, "docket top"))
                        (to / "docket-watch.svg").write_text(svg(watch.screen, "docket watch"))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.screenshots", description=__doc__)
    parser.add_argument("--to", type=Path, default=ROOT / "docs" / "images", help="the folder of the pictures (default: docs/images)")
    parser.add_argument("--seconds", type=float, default=15, help="how long everything runs before the picture is taken")
    chosen = parser.parse_args()
    os.chdir(ROOT)
    asyncio.run(take(chosen.to, chosen.seconds))
    print(*sorted(str(path) for path in chosen.to.glob("*.svg")), sep="\n")


if __name__ == "__main__":
    main()
