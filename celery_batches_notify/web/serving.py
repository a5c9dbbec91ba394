"""The page's own server, for the command line and the demo: it ends the streams before it stops."""

from __future__ import annotations

from socket import socket
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from celery_batches_notify.web.answers import SecureHeaders


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
        if isinstance(self._page, SecureHeaders):
            self._page.end_streams()
        await super().shutdown(sockets)
