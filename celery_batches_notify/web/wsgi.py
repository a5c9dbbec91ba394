"""The status page as a WSGI application, for Flask and Django: the same views without streams."""

from __future__ import annotations

from collections.abc import Callable, Collection, Coroutine, Iterable
from http import HTTPStatus
from typing import Any

from celery import Celery
from starlette.types import ASGIApp, Message, Scope

from celery_batches_notify.web.access import Decide, read_only
from celery_batches_notify.web.answers import SecureHeaders
from celery_batches_notify.web.application import Page
from celery_batches_notify.web.requests import as_function

Environ = dict[str, Any]
StartResponse = Callable[[str, list[tuple[str, str]]], object]
WsgiApp = Callable[[Environ, StartResponse], Iterable[bytes]]

BODY_BYTES = 10_001  # one more than the limit, so that `read_body` notices a longer form


def wsgi_status_page(
    app: Celery[Any] | None = None,
    *,
    access: Decide | Collection[str] = read_only,
    frame_ancestors: Collection[str] = (),
    widget_origins: Collection[str] = (),
    behind_proxy: bool = False,
) -> WsgiApp:
    """Return the status page as a WSGI application; mount it at any prefix. See `status_page`.

    `access` must not be asynchronous here; its request holds the WSGI environment as
    `request.scope["wsgi.environ"]`.
    """
    page = Page(app, access=as_function(access), streams=0, behind_proxy=behind_proxy, threads=False)
    inner = SecureHeaders(page.build(), frame_ancestors=frame_ancestors, widget_origins=widget_origins)

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        status, headers, body = _run(_ask(inner, environ))
        start_response(f"{status} {HTTPStatus(status).phrase}", headers)
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


async def _ask(inner: ASGIApp, environ: Environ) -> tuple[int, list[tuple[str, str]], bytes]:
    length = environ.get("CONTENT_LENGTH") or "0"
    size = min(int(length), BODY_BYTES) if length.isdigit() else 0
    given: Message = {"type": "http.request", "body": environ["wsgi.input"].read(size) if size else b""}
    sent: list[Message] = []

    async def receive() -> Message:
        return given

    async def send(message: Message) -> None:
        sent.append(message)

    await inner(_scope_of(environ), receive, send)
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in sent[0]["headers"]]
    return sent[0]["status"], headers, b"".join(message.get("body", b"") for message in sent[1:])


def _scope_of(environ: Environ) -> Scope:
    names = [name for name in environ if name.startswith("HTTP_")]
    headers = [(name[5:].replace("_", "-").lower(), environ[name]) for name in names]
    headers += [
        (name.replace("_", "-").lower(), environ[name])
        for name in ("CONTENT_TYPE", "CONTENT_LENGTH")
        if environ.get(name)
    ]
    root, path = (
        environ.get(name, "").encode("latin-1").decode("utf-8", "replace")
        for name in ("SCRIPT_NAME", "PATH_INFO")
    )
    return {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": environ["REQUEST_METHOD"],
        "scheme": environ.get("wsgi.url_scheme", "http"),
        "path": root + path or "/",
        "root_path": root,
        "query_string": environ.get("QUERY_STRING", "").encode("latin-1"),
        "headers": [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "server": (environ.get("SERVER_NAME", ""), int(environ.get("SERVER_PORT") or 0)),
        "client": (environ.get("REMOTE_ADDR", ""), 0),
        "wsgi.environ": environ,
    }


def _run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never waits; it needs no event loop, and works inside a running one, too."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    coroutine.close()
    raise RuntimeError("the page waits for something: in WSGI, access= must not be asynchronous")
