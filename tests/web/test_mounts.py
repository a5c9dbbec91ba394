"""The page under any prefix, in each kind of server: no link leads out of it or to nothing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from html import unescape
from typing import Any
from urllib.parse import quote, urljoin, urlsplit

import pytest
from celery import Celery
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from fastapi import FastAPI
from flask import Flask
from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.testclient import TestClient
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.test import Client as WerkzeugClient

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.web import status_page, wsgi_status_page
from tests.support.django_project import set_up_django
from tests.web.conftest import ALL, SAME_SITE, inputs
from tests.web.scene import make_batch, report

LINKS = re.compile(r'(?:href|src|srcset|action|data-part|data-stream)="([^"]*)"')
Get = Callable[[str], tuple[int, str, str]]


def in_uvicorn(app: Celery, prefix: str) -> Any:
    return status_page(app, access=ALL) if prefix == "/" else mount(status_page(app, access=ALL), prefix)


def mount(page: Any, prefix: str) -> Starlette:
    return Starlette(routes=[Mount(prefix.rstrip("/"), page)])


def in_fastapi(app: Celery, prefix: str) -> FastAPI:
    api = FastAPI()
    api.mount(prefix.rstrip("/"), status_page(app, access=ALL))
    return api


def behind_a_proxy(app: Celery, prefix: str) -> Any:
    """The proxy strips the prefix and sends no header about it."""
    page = status_page(app, access=ALL)

    async def proxied(scope: Any, receive: Any, send: Any) -> None:
        assert scope["path"].startswith(prefix)
        path = "/" + scope["path"].removeprefix(prefix)
        await page({**scope, "path": path, "raw_path": path.encode()}, receive, send)

    return proxied


def in_django(app: Celery, prefix: str) -> Any:
    """Django answers all else; the page stands beside it, as the how-to has it."""
    set_up_django()
    return Starlette(
        routes=[
            Mount(prefix.rstrip("/"), status_page(app, access=ALL)),
            Mount("/", get_asgi_application()),
        ]
    )


def in_django_wsgi(app: Celery, prefix: str) -> Any:
    """Django without ASGI: the page stands before it, as in Flask."""
    in_django(app, prefix)
    page = wsgi_status_page(app, access=ALL)
    return DispatcherMiddleware(get_wsgi_application(), {prefix.rstrip("/"): page})


def in_flask(app: Celery, prefix: str) -> Any:
    page = wsgi_status_page(app, access=ALL)
    flask = Flask("proj")
    return DispatcherMiddleware(flask, {prefix.rstrip("/"): page}) if prefix != "/" else page


def crawl(get: Get, start: str, prefix: str) -> set[str]:
    """Follow every link from a page on; return the paths."""
    seen: set[str] = set()
    left = [start]
    while left:
        path = left.pop()
        if path in seen or path.endswith("/live"):
            continue
        seen.add(path)
        assert urlsplit(path).path.startswith(prefix), f"{path} leads out of {prefix}"
        status, kind, text = get(path)
        assert status == 200, (status, path)
        if "html" in kind and not urlsplit(path).path.endswith("part"):  # its links are its page's
            found = [unescape(link) for link in LINKS.findall(text)]
            assert not [link for link in found if link.startswith(("/", "http"))]
            left += [urljoin(path, link).partition("#")[0] for link in found if not link.startswith("#")]
    return seen


@pytest.fixture
def batch(app: Celery) -> Batch:
    """A batch with a failure, in another one."""
    parent = Batch("Parent", app=app, keep_open=True)
    make_batch(app, 0)
    child = Batch("Child", app=app, parent=parent, tags=["a b"])
    child.map(app.tasks.get("billing.tasks.send_invoice") or made(app), [1, 2])
    parent.seal()
    report(child, {0: State.DEAD})
    return child


def made(app: Celery) -> Any:
    def send_invoice(*_: object) -> None: ...

    return app.task(name="billing.tasks.send_invoice", shared=False)(send_invoice)


BELOW = (in_uvicorn, in_fastapi, behind_a_proxy, in_django, in_django_wsgi, in_flask)
SERVERS = [(each, "/a/b/") for each in BELOW]
AT_THE_ROOT = [(each, "/") for each in (in_uvicorn, in_fastapi, in_flask)]


@pytest.mark.parametrize(("server", "prefix"), [*SERVERS, *AT_THE_ROOT])
def test_every_link_leads_to_something_below_the_prefix(
    app: Celery, batch: Batch, server: Callable[[Celery, str], Any], prefix: str
) -> None:
    application = server(app, prefix)
    if server in (in_flask, in_django_wsgi):
        client = WerkzeugClient(application)

        def get(path: str) -> tuple[int, str, str]:
            answer = client.get(path)
            return (
                answer.status_code,
                answer.content_type or "",
                answer.get_data(as_text=True) if "text" in (answer.content_type or "") else "",
            )

    else:
        asgi = TestClient(application, raise_server_exceptions=False)

        def get(path: str) -> tuple[int, str, str]:
            answer = asgi.get(path, follow_redirects=False)
            kind = answer.headers.get("content-type", "")
            return answer.status_code, kind, answer.text if "text" in kind else ""

    seen = crawl(get, prefix, prefix)
    below = prefix + batch.bid
    for path in ("", "/members", "/retry", "/part", ".json", "/all.json"):
        assert below + path in seen, path
    assert any("/assets/page.js" in path for path in seen)


SLASHES = [
    ("{bid}/", "{bid}"),
    ("{bid}/?look=1&x=%2F", "{bid}?look=1&x=%2F"),
    ("{bid}/members/?state=dead", "{bid}/members?state=dead"),
    ("list.json/", "list.json"),
    ("a%20b%3F/", "a%20b%3F"),
    ("/{bid}", None),
    ("/{bid}/", None),
    ("{bid}//", None),
    ("{bid}//members/", None),
    ("/evil.example/", None),
    ("//evil.example/..", None),
    ("%2Fevil.example/", None),
    ("%5Cevil.example/", "%5Cevil.example"),
]


@pytest.mark.parametrize(("path", "meant"), SLASHES)
@pytest.mark.parametrize(("server", "prefix"), [*SERVERS, (in_uvicorn, "/"), (in_flask, "/")])
def test_a_slash_at_the_end_leads_to_the_page_and_an_extra_one_nowhere(
    app: Celery,
    batch: Batch,
    server: Callable[[Celery, str], Any],
    prefix: str,
    path: str,
    meant: str | None,
) -> None:
    application = server(app, prefix)
    asked = "http://localhost" + prefix + path.format(bid=batch.bid)
    if server in (in_flask, in_django_wsgi):
        answer: Any = WerkzeugClient(application).get(asked)
    else:
        answer = TestClient(application).get(asked, follow_redirects=False)
    if meant is None:
        assert (answer.status_code, answer.headers.get("Location")) == (404, None)
    else:
        assert answer.status_code == 307
        assert answer.headers["Location"].startswith("../")
        assert urljoin(asked, answer.headers["Location"]) == "http://localhost" + prefix + meant.format(
            bid=batch.bid
        )


def test_a_form_that_is_sent_to_a_slash_too_many_is_not_sent_on(app: Celery, batch: Batch) -> None:
    client = TestClient(status_page(app, access=ALL))
    assert client.post(f"/{batch.bid}/cancel/", follow_redirects=False).status_code == 404


def test_a_mount_that_is_asked_for_without_its_slash_by_any_dispatcher(app: Celery) -> None:
    page = status_page(app)

    async def dispatched(scope: Any, receive: Any, send: Any) -> None:
        await page({**scope, "root_path": "/a/b"}, receive, send)

    answer = TestClient(dispatched).get("/a/b?state=live", follow_redirects=False)
    assert (answer.status_code, answer.headers["Location"]) == (307, "./b/?state=live")


def test_a_form_works_under_wsgi_and_leads_back(app: Celery, batch: Batch) -> None:
    client = WerkzeugClient(in_flask(app, "/a/b/"))
    path = f"/a/b/{batch.bid}/retry"
    form = client.get(path).get_data(as_text=True)
    answer = client.post(path, data=dict(inputs(form)), headers=SAME_SITE)
    assert answer.status_code == 303
    assert urljoin(path, answer.headers["Location"]) in (
        f"/a/b/{batch.bid}",
        f"http://localhost/a/b/{batch.bid}",
    )
    assert batch.status().dead == 0
    assert client.post(path, data={"token": "x" * 20_000}, headers=SAME_SITE).status_code == 413


@pytest.mark.parametrize("prefix", ["/a", "/a/b ?"])
def test_a_mount_under_wsgi_that_is_asked_for_without_its_slash(app: Celery, prefix: str) -> None:
    client = WerkzeugClient(in_flask(app, f"{prefix}/"))
    answer = client.get(quote(prefix), query_string="state=live")
    assert answer.status_code == 307
    place = urljoin(f"http://localhost{quote(prefix)}", answer.headers["Location"])
    assert place == f"http://localhost{quote(prefix)}/?state=live"
    assert "Batches" in client.get(place).get_data(as_text=True)


def test_a_page_under_wsgi_is_asked_and_has_no_stream(app: Celery, batch: Batch) -> None:
    client = WerkzeugClient(in_flask(app, "/a/"))
    assert 'data-live="poll"' in client.get(f"/a/{batch.bid}").get_data(as_text=True)
    assert client.get(f"/a/{batch.bid}/live").status_code == 404
    done = make_batch(app, 0)
    part = client.get(f"/a/{done.bid}/part")
    again = client.get(f"/a/{done.bid}/part", headers={"If-None-Match": part.headers["ETag"]})
    assert (again.status_code, again.get_data()) == (304, b"")
    assert client.head(f"/a/{batch.bid}").get_data() == b""


def test_access_under_wsgi_sees_the_environment_and_must_not_wait(app: Celery) -> None:
    async def decide(_: object) -> set[str]:
        import asyncio

        await asyncio.sleep(0)
        return {"read"}

    page = wsgi_status_page(app, access=lambda r: {"read"} if r.scope["wsgi.environ"]["REMOTE_ADDR"] else ())
    assert WerkzeugClient(page).get("/", environ_base={"REMOTE_ADDR": "10.0.0.1"}).status_code == 200
    with pytest.raises(RuntimeError, match="must not be asynchronous"):
        WerkzeugClient(wsgi_status_page(app, access=decide)).get("/")


@pytest.fixture
def other(make_app: Callable[..., Celery]) -> Iterator[Celery]:
    """Another app, whose batches are others."""
    return make_app(batches_prefix="batches-other")


def test_two_apps_are_served_by_one_process(app: Celery, make_app: Callable[..., Celery]) -> None:
    other = make_app(batches_prefix="batches-other")
    mine, theirs = make_batch(app, 0, "Mine"), make_batch(other, 0, "Theirs")
    both = Starlette(routes=[Mount("/a", status_page(app)), Mount("/b", status_page(other))])
    client = TestClient(both)
    assert [each["bid"] for each in client.get("/a/list.json").json()["batches"]] == [mine.bid]
    assert [each["bid"] for each in client.get("/b/list.json").json()["batches"]] == [theirs.bid]
    assert client.get(f"/a/{theirs.bid}").status_code == 404


def test_the_page_of_a_message_is_that_of_its_batch(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_web_url="http://testserver/ops/batches/")
    batch = make_batch(app, 0, "Linked")
    from celery_batches_notify.engine import find_engine

    url = find_engine(app).settings.page_of(batch.bid)
    client = TestClient(mount(status_page(app), "/ops/batches/"))
    assert "Linked" in client.get(url).text
