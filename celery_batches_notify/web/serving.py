"""The page's own server, for the command line and the demo: it ends the streams before it stops."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import socket
from contextlib import suppress
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from celery_batches_notify.web.answers import SecureHeaders

M_ARENA_MAX = -8  # of glibc's malloc.h
ENDING_SECONDS = 0.1
# A name such as localhost may stand for an address of a family that this machine does not use.
_NOT_HERE = (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT)


def settle() -> None:
    """Prepare this process to serve for months; call it once all is loaded, before a thread begins."""
    gc.freeze()  # what is loaded stays, so a collection that looks through it only keeps somebody waiting
    with suppress(AttributeError, OSError):  # other C libraries have no such heaps
        # A heap per thread would keep what the other threads could use, and grow for hours.
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 2)


def listen(host: str, port: int) -> list[socket.socket]:
    """Listen at every address of a host, all on one port; 0 stands for a free one.

    Raises:
        OSError: The host is unknown or not this machine, or the port is taken.
    """
    sockets: list[socket.socket] = []
    missing: list[OSError] = []
    try:
        found = socket.getaddrinfo(host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        for family, (address, _, *scope) in dict.fromkeys((each[0], each[4]) for each in found):
            try:
                sockets.append(socket.create_server((address, port, *scope), family=family))
            except OSError as exc:
                if exc.errno not in _NOT_HERE:
                    raise
                missing.append(exc)
            else:
                port = sockets[0].getsockname()[1]
        if not sockets:
            raise missing[0]
    except OSError:
        for each in sockets:
            each.close()
        raise
    return sockets


class PageServer(uvicorn.Server):
    """A server of one page, which stops without waiting for its watchers, and without errors in the log.

    Args:
        page: What `status_page` returned, or an application that holds it.
        options: Those of `uvicorn.Config`.
    """

    def __init__(self, page: ASGIApp, **options: Any) -> None:
        super().__init__(uvicorn.Config(page, lifespan="off", server_header=False, **options))
        self._page = page

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
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
