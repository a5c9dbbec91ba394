"""Small helpers for requests: refusals, the batch of a path, and the body of a form."""

from __future__ import annotations

from collections.abc import Collection

from starlette.requests import Request
from starlette.responses import Response

from celery_batches_notify.checks import check_bid
from celery_batches_notify.web.access import Access, Decide, check_grants
from celery_batches_notify.web.answers import Problem


def refuse(access: Access) -> Problem:
    """Return the problem to raise if a user may not read."""
    if access.challenge:
        words = "This page asks for a name and a password."
        return Problem(401, "unauthorized", words, challenge=access.challenge)
    return Problem(403, "forbidden", "You may not see this page.")


def as_function(access: Decide | Collection[str]) -> Decide:
    """Return `access` if it is a function; otherwise a function that gives everybody these grants."""
    if callable(access):
        return access
    granted = Access(grants=check_grants(access))
    return lambda _: granted


def bid_of(request: Request) -> str:
    """Return the bid in a request's path. Raises `InvalidBid`."""
    return check_bid(request.path_params["bid"])


def html(text: str) -> Response:
    """Return HTML as a response."""
    return Response(text, media_type="text/html")


async def read_body(request: Request, most: int = 10_000) -> bytes:
    """Read the body of a form; stop and raise `Problem` if it has more than `most` bytes."""
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > most:
            raise Problem(413, "too_long", "The form is too long.")
    return body
