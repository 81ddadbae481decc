"""A web application that hands work over: a route schedules it, the page shows how far it is, and fetches the result when it is there.

pip install 'pydocket[fastapi]' uvicorn httpx
python examples/fastapi_app.py             # starts the application, asks it for a report as a browser would, prints what comes, and ends
python examples/fastapi_app.py --serve     # serves it: http://127.0.0.1:8000

With DOCKET_URL=redis://localhost:6379/0 the work goes through Redis. Results are kept in files and not in Redis, however large they are.
"""

import asyncio
import json
import logging
import os
import sys
import tempfile
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import uvicorn
from fastapi import FastAPI, HTTPException
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse

from docket import Docket, ExecutionState, Progress
from docket.execution import Execution, ExecutionProgress
from docket.integrations.fastapi import AfterResponse, DocketDep, lifespan
from docket.states import TERMINAL


class Files:
    """Keeps results in a folder. In Redis stands only that there is one; where there are many machines, a bucket would do instead."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def put(self, key: str, value: dict[str, Any], *, collection: str | None = None, ttl: float | None = None) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / f"{key}.json".replace(":", "-")).write_text(json.dumps(value))

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        file = self.folder / f"{key}.json".replace(":", "-")
        return json.loads(file.read_text()) if file.exists() else None


files = Files(Path(os.environ.get("REPORTS", tempfile.gettempdir())) / "docket-reports")
docket = Docket(name="web", url=os.environ.get("DOCKET_URL", "memory://web"), result_storage=files, execution_ttl=timedelta(hours=1))
app = FastAPI(lifespan=lifespan(docket, worker=True))  # worker=True: tasks run in this process, too; `docket worker` runs them elsewhere


@docket.task
async def report(customer: str, pages: int, progress: ExecutionProgress = Progress()) -> list[str]:
    await progress.set_total(pages)
    written: list[str] = []
    for page in range(1, pages + 1):
        await asyncio.sleep(0.1)  # the work
        written.append(f"page {page} of the report for {customer}: " + "lorem ipsum " * 1_000)
        await progress.increment()
    return written


@docket.task
async def count_request(customer: str) -> None:
    print(f"  (after the response: {customer} asked for a report)", flush=True)


@app.post("/reports", status_code=202)
async def order(customer: str, docket: DocketDep, background: AfterResponse, pages: int = 8) -> dict[str, str]:
    execution = await docket.add(report)(customer, pages)  # from here on the report is made, whatever becomes of this process
    background.add_task(count_request, customer)  # and this is scheduled once the response was sent
    return {"result": f"/reports/{execution.key}", "events": f"/reports/{execution.key}/events"}


async def find(key: str) -> Execution[list[str]]:
    execution = await docket.get_execution(key)
    if execution is None:
        raise HTTPException(404, "there is no such report, or there is none any more")
    return execution


@app.get("/reports/{key}")
async def result(key: str) -> JSONResponse:
    """Gives a report to whoever has its key."""
    execution = await find(key)
    if execution.state is ExecutionState.COMPLETED:
        return JSONResponse(await execution.get_result())
    if execution.state in TERMINAL:
        raise HTTPException(500, f"the report could not be made: {execution.error}")
    return JSONResponse({"state": execution.state.value, "done": execution.progress.current, "of": execution.progress.total}, 202)


@app.get("/reports/{key}/events")
async def events(key: str) -> StreamingResponse:
    """Tells a page how far its report is, as server-sent events, until it is done."""
    execution = await find(key)

    async def stream() -> AsyncGenerator[str, None]:
        async with aclosing(execution.subscribe()) as told:
            async for event in told:
                if event["type"] == "progress":
                    yield f"event: progress\ndata: {json.dumps({'done': event['current'], 'of': event['total']})}\n\n"
                else:
                    yield f"event: state\ndata: {json.dumps(event['state'].value)}\n\n"
                    if event["state"] in TERMINAL:
                        return

    return StreamingResponse(stream(), media_type="text/event-stream", headers={"Cache-Control": "no-cache"})


PAGE = """<!doctype html><title>Reports</title>
<button>A report, please</button> <progress value=0 max=1></progress> <span></span> <pre></pre>
<script>
const [button, bar, state, text] = ["button", "progress", "span", "pre"].map(name => document.querySelector(name))
button.onclick = async () => {
  const urls = await (await fetch("/reports?customer=Ada&pages=40", {method: "POST"})).json()
  const events = new EventSource(urls.events)
  events.addEventListener("progress", event => { const told = JSON.parse(event.data); bar.value = (told.done ?? 0) / told.of })
  events.addEventListener("state", async event => {
    state.textContent = JSON.parse(event.data)
    if (["completed", "failed", "cancelled"].includes(state.textContent)) {
      events.close()
      text.textContent = (await (await fetch(urls.result)).json()).map(page => page.slice(0, 60)).join("\\n")
    }
  })
}
</script>"""


@app.get("/", response_class=HTMLResponse)
async def index() -> str:
    return PAGE


async def browse(url: str) -> None:
    """Does what the page does."""
    async with httpx.AsyncClient(base_url=url, timeout=30, trust_env=False) as client:
        urls = (await client.post("/reports", params={"customer": "Ada"})).json()
        print("ordered:", urls, flush=True)
        async with client.stream("GET", urls["events"]) as response:
            async for line in response.aiter_lines():
                if line.startswith("data: "):
                    print("  told:", line.removeprefix("data: "), flush=True)
        response = await client.get(urls["result"])
        print(f"the result: {len(response.json())} pages, {len(response.content):,} bytes, kept in {files.folder}")


async def main() -> None:
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_level="warning"))
    serving = asyncio.create_task(server.serve())
    while not server.started:  # noqa: ASYNC110 - uvicorn has no event for it
        await asyncio.sleep(0.01)
    host, port = server.servers[0].sockets[0].getsockname()
    await browse(f"http://{host}:{port}")
    server.should_exit = True
    await serving


if __name__ == "__main__":
    logging.getLogger("docket").setLevel(logging.WARNING)
    if "--serve" in sys.argv:
        uvicorn.run(app)
    else:
        asyncio.run(main())
