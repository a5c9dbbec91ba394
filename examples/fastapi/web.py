"""A form that starts an import, and a page that shows its progress live, from async views."""

import asyncio
import html
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import parse_qs

from fastapi import FastAPI, HTTPException, Request
from fastapi.responses import HTMLResponse, RedirectResponse, StreamingResponse
from tasks import app, import_row

from celery_batches_notify import Batch, BatchesError
from celery_batches_notify.web import status_page


@asynccontextmanager
async def lifespan(_: FastAPI) -> AsyncIterator[None]:
    """Give Celery's connections back at the end."""
    yield
    await asyncio.to_thread(app.close)


web = FastAPI(lifespan=lifespan)
web.mount("/batches", status_page(app))

FORM = (
    "<form method=post action=/imports><input name=rows type=number value=100> <button>Import</button></form>"
    "<p><a href=/batches/>All batches</a>"
)
PAGE = """<!doctype html><meta charset=utf-8><title>{title}</title><h1>{title}</h1>
<progress value=0 max=1></progress> <output></output> <p><a href="/batches/{bid}">The batch</a>
<script>
const source = new EventSource(location.pathname + "/events");
source.onmessage = (event) => {{
  const now = JSON.parse(event.data);
  document.querySelector("progress").value = now.progress;
  const figures = `${{now.succeeded}} of ${{now.total}}, ${{now.dead}} failed`;
  document.querySelector("output").value = `${{now.state}}: ${{figures}}`;
  if (now.finished) source.close();
}};
</script>"""


@web.get("/", response_class=HTMLResponse)
async def form() -> str:
    """Show the form."""
    return FORM


@web.post("/imports")
async def start(request: Request) -> RedirectResponse:
    """Start an import; the block waits for the store and the broker, so a thread runs it."""
    form = parse_qs((await request.body()).decode())  # `Form()` would need one more package
    rows = form.get("rows", [""])[0]
    if not (rows.isdecimal() and 0 < int(rows) <= 10_000):
        raise HTTPException(400, "rows must be a number from 1 to 10,000")
    bid = await asyncio.to_thread(send, int(rows))
    return RedirectResponse(f"/imports/{bid}", status_code=303)


def send(rows: int) -> str:
    """Send a task for each row; return the batch's id."""
    with Batch(f"Import {rows} rows") as batch:
        for number in range(rows):
            import_row.delay(number)
    return batch.bid


async def find(bid: str) -> Batch:
    """Return the batch, or answer 404."""
    try:
        return await asyncio.to_thread(Batch.get, bid, app=app)
    except BatchesError as exc:
        raise HTTPException(404, str(exc)) from exc


@web.get("/imports/{bid}", response_class=HTMLResponse)
async def show(bid: str) -> str:
    """Show an import."""
    batch = await find(bid)
    return PAGE.format(bid=batch.bid, title=html.escape(batch.description))


@web.get("/imports/{bid}/events")
async def events(bid: str) -> StreamingResponse:
    """Stream the progress as server-sent events."""
    batch = await find(bid)

    async def stream() -> AsyncIterator[str]:
        async for now in batch.follow():
            names = ("state", "total", "succeeded", "dead", "progress", "finished")
            yield f"data: {json.dumps({name: getattr(now, name) for name in names})}\n\n"

    return StreamingResponse(stream(), media_type="text/event-stream")
