"""The status page as an ASGI application: `status_page(app)`, mountable anywhere."""

from __future__ import annotations

import hashlib
import inspect
import logging
from collections.abc import Awaitable, Callable, Collection
from typing import Any, TypeVar

from anyio import to_thread
from celery import Celery
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from celery_batches_notify.checks import check_bid
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.errors import ConfigurationError, NoSuchBatch
from celery_batches_notify.web.access import Access, Decide, FormTokens, check_grants, read_only
from celery_batches_notify.web.actions import Actions
from celery_batches_notify.web.answers import (
    FAILED,
    NOT_FOUND,
    UNSET,
    SecureHeaders,
    answer_asset,
    answer_http,
    answer_json,
    answer_problem,
    answer_tagged,
    intended_url,
    is_ours,
    problem_of,
    root_of,
    theme_of,
    wants_json,
)
from celery_batches_notify.web.census import TABS, Census
from celery_batches_notify.web.clusters import ClusterReader
from celery_batches_notify.web.examining import Examiner
from celery_batches_notify.web.listing import Query, read_list
from celery_batches_notify.web.live import Hub, answer_stream
from celery_batches_notify.web.maps import Maps
from celery_batches_notify.web.members import read_member_page
from celery_batches_notify.web.metrics import Metrics
from celery_batches_notify.web.rendering import render
from celery_batches_notify.web.requests import as_function, bid_of, html, read_body, refuse
from celery_batches_notify.web.sharing import read_shared
from celery_batches_notify.web.view import BatchView, read_view

T = TypeVar("T")

logger = logging.getLogger(__name__)


def status_page(
    app: Celery[Any] | None = None,
    *,
    access: Decide | Collection[str] = read_only,
    streams: int = 500,
    frame_ancestors: Collection[str] = (),
    widget_origins: Collection[str] = (),
    behind_proxy: bool = False,
) -> ASGIApp:
    """Return the status page of an app's batches as an ASGI application; mount it at any prefix.

    Args:
        app: The Celery app; by default the current one, looked up at the first request.
        access: The rights of users. Either a function, asynchronous or not, that takes the request and
            returns an `Access` or some of the grants `read`, `retry`, `cancel`, `redeliver`, `seal` and
            `delete`; or one set of grants for all. By default everybody may read, nobody change anything.
        streams: How many clients get live updates at once; the others poll every few seconds. If 0, all poll.
        frame_ancestors: Origins that may show the page in a frame.
        widget_origins: Origins whose pages may use `<batch-progress>` on shared batches.
        behind_proxy: Whether your own proxy sets `X-Forwarded-Host`.

    Raises:
        ValueError: A grant is unknown, or an origin is malformed.
    """
    page = Page(app, access=as_function(access), streams=streams, behind_proxy=behind_proxy)
    return SecureHeaders(
        page.build(),
        frame_ancestors=frame_ancestors,
        widget_origins=widget_origins,
        end_streams=page.hub.set,
    )


class Page:
    """The requests that the page answers, one method each."""

    def __init__(
        self, app: Celery | None, *, access: Decide, streams: int, behind_proxy: bool, threads: bool = True
    ) -> None:
        self._app = app
        self._access = access
        self._threads = threads
        self._behind_proxy = behind_proxy
        self._census = Census()
        self._examiner = Examiner()
        self._clusters = ClusterReader()
        self._maps = Maps()
        self._metrics = Metrics()
        self.is_live = streams > 0
        self.hub = Hub(streams, self._draw_part)

    @property
    def engine(self) -> Engine:
        """The app's engine."""
        return find_engine(self._app)

    def build(self) -> Starlette:
        """Return the application without the headers."""
        get: list[tuple[str, Callable[..., Awaitable[Response]]]] = [
            ("/", self.show_list),
            ("/list.json", self.list_json),
            ("/list.part", self.list_part),
            ("/metrics", self.metrics),
            ("/robots.txt", self.robots),
            ("/assets/{name}", self.asset),
            ("/s/{token}", self.shared),
            ("/s/{token}/part", self.shared),
            ("/{bid}.json", self.batch_json),
            ("/{bid}/all.json", self.view_json),
            ("/{bid}/part", self.part),
            ("/{bid}/live", self.stream),
            ("/{bid}/map.png", self.map),
            ("/{bid}/members", self.members),
            ("/{bid}/members.json", self.members),
            ("/{bid}", self.show_batch),
        ]
        routes = [Route(path, self._answering(view), methods=["GET"]) for path, view in get]
        routes.append(Route("/{bid}/{action}", self._answering(self.action), methods=["GET", "POST"]))
        built = Starlette(
            routes=routes,
            exception_handlers={HTTPException: self._on_http, Exception: self._on_failure},
        )
        built.router.redirect_slashes = False  # it names the host and the scheme that a proxy asked for
        return built

    async def show_list(self, request: Request, access: Access) -> Response:
        """Show the list of batches; if the search text is a whole bid, redirect to its page."""
        query = Query.parse(request.query_params)
        if query.text and (bid := await self._whole_bid(query.text)):
            return RedirectResponse(f"{root_of(request)}/{bid}", 303)
        return html(await self._draw_list("list.html", request, access))

    async def list_part(self, request: Request, access: Access) -> Response:
        """Answer with the part of the list that moves."""
        drawn = await self._draw_list("list_part.html", request, access)
        return answer_tagged(request, drawn.encode(), "text/html")

    async def list_json(self, request: Request, _: Access) -> Response:
        """Answer with the list as JSON."""
        page = await self.call(read_list, self.engine, Query.parse(request.query_params), self._census)
        return answer_json(page.as_dict())

    async def _draw_list(self, template: str, request: Request, access: Access) -> str:
        page = await self.call(read_list, self.engine, Query.parse(request.query_params), self._census)
        values = {"page": page, "tabs": {name: label for name, (label, _) in TABS.items()}}
        return await self.call(self._render, template, request, access, **values)

    async def _whole_bid(self, text: str) -> str:
        try:
            bid = check_bid(text)
            await self.call(self.engine.store.read_briefly, bid)
        except (NoSuchBatch, ValueError):
            return ""
        return bid

    async def show_batch(self, request: Request, access: Access) -> Response:
        """Show a batch; with `?look=1` ask the broker and the workers, too."""
        view = await self._view(request)
        examined = None
        if request.query_params.get("look"):
            examined = await self.call(self._examiner.examine, self.engine, view.status.bid)
        values = {"view": view, "examined": examined, "system": self.engine.settings.origin}
        return html(await self.call(self._render, "batch.html", request, access, **values))

    async def part(self, request: Request, access: Access) -> Response:
        """Answer with the part of a batch's page that moves."""
        drawn = await self.call(self._draw_part, bid_of(request), access.grants)
        return answer_tagged(request, drawn.encode(), "text/html")

    async def stream(self, request: Request, access: Access) -> Response:
        """Send the part that moves whenever it has moved."""
        if not self.is_live:
            raise NOT_FOUND
        return answer_stream(self.hub, self.engine, bid_of(request), access.grants)

    async def batch_json(self, request: Request, _: Access) -> Response:
        """Answer with the status as JSON: what callbacks get."""
        status = await self.call(self.engine.store.read_status, bid_of(request))
        return answer_json(status.as_dict())

    async def metrics(self, request: Request, _: Access) -> Response:
        """Answer with the metrics of all batches, in the format that the client prefers."""
        return await self.call(self._metrics.answer, self.engine, request)

    async def view_json(self, request: Request, _: Access) -> Response:
        """Answer with everything that the page shows, as JSON."""
        return answer_json((await self._view(request)).as_dict())

    async def map(self, request: Request, _: Access) -> Response:
        """Answer with the picture of all members."""
        theme = "dark" if request.query_params.get("theme") == "dark" else "light"
        return await self.call(self._maps.answer, self.engine, request, bid_of(request), theme)

    async def members(self, request: Request, access: Access) -> Response:
        """Show a hundred members; only those in one state if the URL names it."""
        page = await self.call(read_member_page, self.engine, bid_of(request), request.query_params)
        if wants_json(request):
            return answer_json(page.as_dict())
        return html(await self.call(self._render, "members.html", request, access, page=page))

    async def action(self, request: Request, access: Access) -> Response:
        """Show the plan of an action, or do the action."""
        actions = Actions(self.engine, self._tokens(), access, behind_proxy=self._behind_proxy)
        bid, action = bid_of(request), request.path_params["action"]
        if request.method == "POST":
            body = await read_body(request)
            await self.call(actions.do, request, bid, action, body)
            gone = action == "delete"
            return RedirectResponse(f"{root_of(request)}/" + ("" if gone else bid), 303)
        plan = await self.call(actions.plan, bid, action, request.query_params)
        return html(await self.call(self._render, "confirm.html", request, access, plan=plan))

    # -- the rest -----------------------------------------------------------------------------------

    async def shared(self, request: Request) -> Response:
        """Show a shared batch to everybody who has the link."""
        token = request.path_params["token"]
        shared = await self.call(read_shared, self.engine, token.removesuffix(".json"))
        if wants_json(request):
            return answer_json(shared.as_dict())
        if request.url.path.endswith("/part"):
            return answer_tagged(request, render("shared_part.html", shared=shared).encode(), "text/html")
        return html(await self.call(self._render, "shared.html", request, Access(), shared=shared))

    async def asset(self, request: Request) -> Response:
        """Answer with a file of the page."""
        return answer_asset(request.path_params["name"])

    async def robots(self, _: Request) -> Response:
        """Ask search engines to stay away."""
        return Response("User-agent: *\nDisallow: /\n", media_type="text/plain")

    async def call(self, work: Callable[..., T], *args: Any, **named: Any) -> T:
        """Call a function that waits for the store: under ASGI in a thread, under WSGI directly."""
        if not self._threads:
            return work(*args, **named)
        return await to_thread.run_sync(lambda: work(*args, **named))

    async def _view(self, request: Request) -> BatchView:
        return await self.call(read_view, self.engine, bid_of(request), self._clusters)

    def _draw_part(self, bid: str, grants: frozenset[str]) -> str:
        try:
            view = read_view(self.engine, bid, self._clusters)
        except Exception as exc:
            if not is_ours(exc):
                raise
            return render("batch_gone.html", problem=problem_of(exc))
        return render("batch_part.html", view=view, root=".", grants=grants, web_url=None)

    def _render(self, template: str, request: Request, access: Access, **values: Any) -> str:
        return render(
            template,
            root=root_of(request),
            theme=theme_of(request),
            grants=access.grants,
            user=access.user,
            live="stream" if self.is_live else "poll",
            system=values.pop("system", None) or self.engine.settings.origin,
            **values,
        )

    def _tokens(self) -> FormTokens:
        settings = self.engine.settings
        secret = settings.web_secret or f"{settings.backend_url}|{settings.prefix}"
        return FormTokens(hashlib.sha256(secret.encode()).digest())

    def _answering(
        self, view: Callable[..., Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """Return an endpoint that calls a view if the user may see it; some views are open to all."""
        is_open = view in (self.shared, self.asset, self.robots)

        async def answer(request: Request) -> Response:
            try:
                if is_open:
                    return await view(request)
                access = await self._decide(request)
                if "read" not in access.grants:  # safety: no-read-no-page
                    raise refuse(access)
                return await view(request, access)
            except Exception as exc:
                if not is_ours(exc):
                    raise
                return answer_problem(request, problem_of(exc))

        return answer

    async def _decide(self, request: Request) -> Access:
        decided = self._access(request)
        if inspect.isawaitable(decided):
            decided = await decided
        return decided if isinstance(decided, Access) else Access(grants=check_grants(decided))

    async def _on_http(self, request: Request, exc: Exception) -> Response:
        assert isinstance(exc, HTTPException)  # noqa: S101 - Starlette calls this for no other
        if exc.status_code == 404 and request.method in ("GET", "HEAD") and (url := intended_url(request)):
            return RedirectResponse(url)
        return answer_http(request, exc)

    async def _on_failure(self, request: Request, exc: Exception) -> Response:
        return answer_problem(request, UNSET if isinstance(exc, ConfigurationError) else FAILED)
