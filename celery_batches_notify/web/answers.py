"""The headers of every answer, and errors as a page or as JSON."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Collection, Mapping
from typing import Any
from urllib.parse import quote

from starlette._utils import get_route_path
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from celery_batches_notify.errors import (
    BatchCancelled,
    BatchesError,
    CorruptBatch,
    InvalidBid,
    InvalidCall,
    InvalidCallback,
    NoSuchBatch,
    SchemaTooNew,
    StoreUnavailable,
)
from celery_batches_notify.web.rendering import ASSETS, read_asset, render

AGAIN_SECONDS = 5
ASSET_SECONDS = 365 * 24 * 3600
THEME_COOKIE = "batches_theme"  # page.js sets it
_ORIGIN = re.compile(r"https?://[A-Za-z0-9.:\[\]-]+")


class Problem(Exception):
    """A request failed: the status code, one word for programs, and a sentence for people."""

    def __init__(self, status: int, code: str, words: str, *, challenge: str = "") -> None:
        super().__init__(words)
        self.status = status
        self.code = code
        self.words = words
        self.challenge = challenge

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {"error": self.code, "message": self.words}


NOT_FOUND = Problem(404, "not_found", "There is no such page.")
UNSET = Problem(500, "no_store", "This page has no store of batches; its log says what to set.")
FAILED = Problem(500, "failed", "The page has failed; its log says how.")


def problem_of(exc: Exception) -> Problem:
    """Return the `Problem` that the page shows for an error."""
    found = {
        InvalidBid: (404, "malformed_bid"),
        NoSuchBatch: (404, "no_such_batch"),
        SchemaTooNew: (409, "newer_schema"),
        CorruptBatch: (422, "corrupt_batch"),
        StoreUnavailable: (503, "store_away"),
        BatchCancelled: (409, "cancelled"),
        InvalidCallback: (400, "no_such_callback"),
        InvalidCall: (404, "no_such_group"),
    }
    if isinstance(exc, Problem):
        return exc
    status, code = next((known for kind, known in found.items() if isinstance(exc, kind)), (0, ""))
    if code == "store_away":  # the error's own text holds an address
        words = "The store cannot be reached just now. This page tries again by itself."
        return Problem(status, code, words)
    return Problem(status, code, str(exc)) if code else FAILED


def answer_problem(request: Request, problem: Problem) -> Response:
    """Return a problem as JSON if the client asked for JSON, and as a page otherwise."""
    headers = {"WWW-Authenticate": problem.challenge} if problem.challenge else {}
    if problem.status == 503:
        headers |= {"Retry-After": str(AGAIN_SECONDS), "Refresh": str(AGAIN_SECONDS)}
    if wants_json(request):
        return answer_json(problem.as_dict(), problem.status, headers)
    html = render("problem.html", problem=problem, root=root_of(request), theme=theme_of(request))
    return Response(html, problem.status, headers, "text/html")


def answer_http(request: Request, exc: HTTPException) -> Response:
    """Return Starlette's refusal of an address or method, or the one that `access` raised, as a problem."""
    status = exc.status_code
    codes = {401: "unauthorized", 403: "forbidden", 404: NOT_FOUND.code}
    words = {404: NOT_FOUND.words, 405: "This cannot be asked in this way."}
    problem = Problem(status, codes.get(status, "refused"), words.get(status) or str(exc.detail))
    answer = answer_problem(request, problem)
    answer.headers.update(exc.headers or {})  # such as a challenge, or the place to log in
    return answer


def answer_asset(name: str) -> Response:
    """Return a file of the page, which clients keep for a year."""
    if name not in ASSETS:
        raise NOT_FOUND
    kept = {"Cache-Control": f"public, max-age={ASSET_SECONDS}, immutable"}
    return Response(read_asset(name)[0], headers=kept, media_type=ASSETS[name])


def answer_json(
    data: Mapping[str, Any], status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """Return JSON in ASCII without control characters, so that it is safe to show in a terminal."""
    body = json.dumps(data).replace("\x7f", "\\u007f")
    return Response(body, status, headers, "application/json")


def wants_json(request: Request) -> bool:
    """Return whether a request asks for JSON, by its path or by its `Accept` header."""
    accepted = request.headers.get("accept", "")
    return get_route_path(request.scope).endswith(".json") or accepted.startswith("application/json")


def root_of(request: Request) -> str:
    """Return the relative URL from this request's path to the page's root.

    A relative URL is right below any prefix, even if a proxy strips it.
    """
    depth = get_route_path(request.scope).count("/") - 1
    return "/".join([".."] * depth) or "."


def intended_url(request: Request) -> str:
    """Return the relative URL of the page that a path means which has a slash too many or too few at its end.

    An empty text stands for none: an empty part of a path is no slip, and could lead to another host.
    """
    path, root = get_route_path(request.scope), request.scope.get("root_path", "")
    parts = path[1:-1].split("/")
    if path.endswith("/") and all(parts):  # safety: no-empty-part
        url = f"../{quote(parts[-1])}"
    elif not path and (mount := root.rpartition("/")[2]):  # relative links would lead out of the mount
        url = f"./{quote(mount)}/"
    else:
        return ""
    return f"{url}?{request.url.query}" if request.url.query else url


def theme_of(request: Request) -> str:
    """Return the theme that the user chose: `light`, `dark`, or an empty text for the system's."""
    theme = request.cookies.get(THEME_COOKIE, "")
    return theme if theme in ("light", "dark") else ""


def answer_tagged(request: Request, body: bytes, media_type: str, tag: str = "") -> Response:
    """Return a body with its ETag, or 304 if the client has it."""
    tag = f'"{tag or hashlib.blake2b(body, digest_size=12).hexdigest()}"'
    if tag in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers={"ETag": tag})
    return Response(body, headers={"ETag": tag}, media_type=media_type)


class SecureHeaders:
    """Adds the security headers to every answer, including errors and the answers of a mount.

    Args:
        app: The application that answers.
        frame_ancestors: Origins that may show the page in a frame.
        widget_origins: Origins whose pages may read shared batches, for `<batch-progress>`.
        end_streams: Ends the live streams, because the server stops.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        frame_ancestors: Collection[str] = (),
        widget_origins: Collection[str] = (),
        end_streams: Callable[[], None] = lambda: None,
    ) -> None:
        self._app = app
        self.end_streams = end_streams
        self._policy = policy_of(check_origins(frame_ancestors, "frame_ancestors"))
        self._origins = frozenset(check_origins(widget_origins, "widget_origins"))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        origin = next((v.decode("latin-1") for k, v in scope.get("headers", ()) if k == b"origin"), "")
        path = get_route_path(scope) if scope["type"] == "http" else ""

        async def send_secured(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._secure(MutableHeaders(raw=message.setdefault("headers", [])), path, origin)
            await send(message)

        await self._app(scope, receive, send_secured)

    def _secure(self, headers: MutableHeaders, path: str, origin: str) -> None:
        headers["Content-Security-Policy"] = self._policy
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        headers["Cross-Origin-Opener-Policy"] = "same-origin"
        headers["X-Robots-Tag"] = "noindex"
        headers.setdefault("Cache-Control", "no-store")
        if path.startswith(("/s/", "/assets/")) and self._origins:
            headers["Vary"] = "Origin"
            if origin in self._origins:  # safety: widget-origin
                headers["Access-Control-Allow-Origin"] = origin


def policy_of(frame_ancestors: Collection[str]) -> str:
    """Return the Content-Security-Policy, which allows nothing inline and nothing from other origins."""
    return (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors " + (" ".join(frame_ancestors) or "'none'")
    )


def check_origins(origins: Collection[str], name: str) -> Collection[str]:
    """Return origins such as `https://example.com`; raise `ValueError` if one is malformed."""
    for origin in origins:
        if not _ORIGIN.fullmatch(origin):
            raise ValueError(f"{name} must hold origins such as 'https://example.com', got {origin!r}")
    return origins


def is_ours(exc: Exception) -> bool:
    """Return whether the page explains an error to the user, instead of failing with it."""
    return isinstance(exc, (Problem, BatchesError)) and problem_of(exc) is not FAILED
