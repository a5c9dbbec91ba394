"""The page's own server, for the command line and the demo: it ends the streams before it stops."""

from __future__ import annotations

import asyncio
import ctypes
import gc
from contextlib import suppress
from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from celery_batches_notify.web.answers import SecureHeaders

M_ARENA_MAX = -8  # of glibc's malloc.h
ENDING_SECONDS = 0.1


def settle() -> None:
    """Prepare this process to serve for months; call it once all is loaded, before a thread begins."""
    gc.freeze()  # what is loaded stays, so a collection that looks through it only keeps somebody waiting
    with suppress(AttributeError, OSError):  # other C libraries have no such heaps
        # A heap per thread would keep what the other threads could use, and grow for hours.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


class PageServer(uvicorn.Server):
    """A server of one page, which stops without waiting for its watchers, and without errors in the log.

    Args:
        page: What `status_page` returned, or an application that holds it.
        options: Those of `uvicorn.Config`.
    """

    def __init__(self, page: ASGIApp, **options: Any) -> None:
        super().__init__(uvicorn.Config(page, lifespan="off", server_header=False, **options))
        self._page = page

    async def shutdown(self, sockets: list[socket] | None = None) -> None:
        """End the streams, and then the server."""
        ending = asyncio.create_task(self._end_streams())
        try:
            await super().shutdown(sockets)
        finally:
            ending.cancel()

    async def _end_streams(self) -> None:
        """End the streams again and again, because some are asked for already and have not begun."""
        while isinstance(self._page, SecureHeaders):
            self._page.end_streams()
            await asyncio.sleep(ENDING_SECONDS)  # safety: late-streams-end
