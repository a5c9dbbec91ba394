"""Text that wants to be more than text, in every field that somebody else fills, in every kind of answer."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from urllib.request import urlopen

import pytest
from celery import Celery
from playwright.sync_api import Page, expect
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import DeliveryNote, Failure
from celery_batches_notify.web import status_page
from tests.support.terminal import Commands
from tests.web.conftest import ALL
from tests.web.scene import serving

PAYLOADS = (
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "<svg onload=alert(1)>",
    "<svg><script>alert(1)</script></svg>",
    "<iframe src=javascript:alert(1)></iframe>",
    "<a href=javascript:alert(1)>x</a>",
    "<body onload=alert(1)>",
    "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<style>*{display:none}</style>",
    "<link rel=stylesheet href=//evil.example/x.css>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>",
    "<base href=//evil.example/>",
    "<form action=//evil.example><input name=token></form>",
    "<details open ontoggle=alert(1)>",
    "<video><source onerror=alert(1)></video>",
    "<template><script>alert(1)</script></template>",
    "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>",
    "<xmp><script>alert(1)</script></xmp>",
    "</title><script>alert(1)</script>",
    "</pre><script>alert(1)</script>",
    "</script><script>alert(1)</script>",
    "</textarea><script>alert(1)</script>",
    "--><script>alert(1)</script>",
    "]]><script>alert(1)</script>",
    '"><script>alert(1)</script>',
    "'><script>alert(1)</script>",
    '" onmouseover="alert(1)',
    "' autofocus onfocus='alert(1)",
    "` onerror=alert(1) `",
    "{{ 7 * 7 }}{% raw %}",
    "${7 * 7}#{7 * 7}",
    "javascript:alert(1)",
    "&lt;script&gt;alert(1)&lt;/script&gt;",
    "\x1b[31mred\x1b]0;title\x07",
    "a\r\nevent: page\r\ndata: <b>injected</b>\r\n\r\n",
    "a\x00b\x08c\x7fd\x9b",
    "\u202egnp.exe\u2066\u200b\ufeff",
    "line\u2028separator\u2029paragraph",
    "\ud83d half \udc00",
    "%3Cscript%3Ealert(1)%3C/script%3E",
)
CONTROLS = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u200b\u202a-\u202e\u2066-\u2069\ufeff]")
TAGS = {"script", "iframe", "base", "video", "math", "template", "noscript", "xmp", "style", "body"}


def do_nothing(*_: object) -> None:
    """Be a task."""


def hostile_batch(app: Celery, payloads: tuple[str, ...]) -> Batch:
    """A batch with these in every field that somebody else fills."""
    text = "|".join(payloads)
    batch = Batch(text[:900], app=app, tags=[p[:90] for p in payloads[:16]], keep_open=True)

    batch.on("cancel", app.task(name="notice", shared=False)(do_nothing).si())
    batch.map(app.task(name="work", shared=False)(do_nothing), range(len(payloads)))
    store = find_engine(app).store
    for member, payload in zip(store.read_members(batch.bid, 0, len(payloads)), payloads, strict=True):
        clean = payload.encode("utf-8", "replace").decode()
        failure = Failure(
            task_id=clean,
            task=clean,
            error_class=clean,
            error_message=clean,
            backtrace=f'  File "/srv/{clean}.py", line 3, in {clean}\n    {clean}',
            retries=0,
        )
        outcome = Outcome(state=State.DEAD, failure=failure, unsendable=clean)
        store.record_outcome(Membership(bid=batch.bid, index=member.index, task_id=member.id), outcome)
    batch.cancel()
    for payload in payloads:
        clean = payload.encode("utf-8", "replace").decode()
        note = DeliveryNote(channel=clean, detail=clean)
        store.settle_delivery(batch.bid, "cancel:0", "failed", 1, note=note)
    store.note_action(batch.bid, json.dumps({"action": "retry", "user": payloads[0], "count": 1}))
    return batch


class Elements(HTMLParser):
    """The elements of a page, and the attributes that would run something."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [tag, *(name for name, _ in attrs if name.startswith("on"))]
        self.found += [f"{name}={value}" for name, value in attrs if (value or "").startswith("javascript:")]


def test_hostile_text_is_text_in_every_answer(app: Celery) -> None:
    client = TestClient(status_page(app, access=ALL))
    plain = hostile_batch(app, ("plain",) * len(PAYLOADS))
    expected = {path: elements(client, f"/{plain.bid}{path}") for path in PATHS}
    for start in range(0, len(PAYLOADS), 8):
        payloads = PAYLOADS[start : start + 8]
        batch = hostile_batch(app, payloads)
        for path in PATHS:
            html = client.get(f"/{batch.bid}{path}").text
            found = Elements(html).found
            allowed = {name for name in expected[path] if "=" not in name}
            assert set(found) <= allowed | {"ul", "li"}, (path, payloads)
            assert not CONTROLS.search(html), path
        for path in (".json", "/all.json", "/members.json"):
            answer = client.get(f"/{batch.bid}{path}")
            assert answer.headers["content-type"] == "application/json"
            assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", answer.text), path
            json.loads(answer.text)
    for html in (client.get("/").text, client.get("/", params={"q": PAYLOADS[24]}).text):
        assert html.count("<script") == 2, "our own"
        assert not CONTROLS.search(html)


PATHS = ("", "/part", "/members", "/cancel", "/delete", "/redeliver?event=cancel")


def elements(client: TestClient, path: str) -> set[str]:
    answer = client.get(path)
    assert answer.status_code == 200, path
    return set(Elements(answer.text).found)


def test_hostile_text_is_text_in_streams_shared_pages_and_their_json(
    make_app: Callable[..., Celery],
) -> None:
    app = make_app(batches_web_url="http://testserver/", batches_web_secret="a secret of sixteen")
    page = status_page(app, access=ALL)
    client = TestClient(page)
    with serving(page) as url:
        for payload in PAYLOADS:
            batch = hostile_batch(app, (payload,))
            with urlopen(f"{url}/{batch.bid}/live") as stream:
                event = b"".join(iter(stream.readline, b"\r\n")).decode()
            name, *data = event.splitlines()
            assert name == "event: page" and all(line.startswith("data: ") for line in data), payload
            shared = client.get(batch.share())
            for html in (event, shared.text, client.get(f"{batch.share()}/part").text):
                assert not TAGS & {*Elements(html).found} - {"script", "body"}, payload
                assert not [each for each in Elements(html).found if each.startswith(("on", "href=java"))]
                assert not CONTROLS.search(html.replace("\r\n", "\n")), payload
            assert shared.text.count("<script") == 2, "our own"
            answer = client.get(f"{batch.share()}.json")
            assert not re.search(r"[\x00-\x1f\x7f]", answer.text)
            assert answer.json()["description"] == batch.status().description


def test_hostile_text_is_text_in_a_terminal(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    command = Commands(app=app, monkeypatch=monkeypatch)
    for start in range(0, len(PAYLOADS), 8):
        batch = hostile_batch(app, PAYLOADS[start : start + 8])
        for words in (
            ["show", batch.bid, "--failures", "--deliveries", "--actions", "--members", "dead"],
            ["doctor", batch.bid],
            ["list"],
            ["watch", batch.bid, "--timeout", "0.01"],
        ):
            for as_json in ([], ["--json"]):
                ran = command(*words, *as_json)
                assert not CONTROLS.search(ran.stdout + ran.stderr), words
                assert all(ran.records) if as_json else ran.stdout


def test_hostile_text_does_nothing_in_a_browser(app: Celery, page: Page) -> None:
    batch = hostile_batch(app, PAYLOADS)
    with serving(status_page(app, access=ALL)) as url:
        for path in ("", "?state=hands", batch.bid, f"{batch.bid}/members", f"{batch.bid}/delete"):
            page.goto(f"{url}/{path}")
            tags = page.evaluate("[...document.querySelectorAll('*')].map(n => n.localName)")
            assert tags.count("script") <= 2
            assert not (set(tags) & (TAGS - {"script", "body"})), path
            assert page.evaluate("document.querySelectorAll('[onerror],[onload],[onfocus]').length") == 0
        page.goto(f"{url}/{batch.bid}")
        find_engine(app).store.note_action(batch.bid, '{"action": "seal", "user": "<b>x</b>", "count": 3}')
        expect(page.locator("#actions")).to_contain_text("<b>x</b>")  # it came by the stream
        assert page.locator("#actions b").count() == 0


def test_what_was_written_past_us_does_not_break_a_page(app: Celery, redis: Redis) -> None:
    client = TestClient(status_page(app, access=ALL), raise_server_exceptions=False)
    batch = hostile_batch(app, PAYLOADS[:3])
    key = f"batches:{{{batch.bid}}}"
    for name, value in {
        "action:5": "not an action",
        "tags": '{"a": 1}',
        "parent_bid": "<script>",
        "created_at": "9" * 30,
    }.items():
        before = redis.hget(key, name)
        redis.hset(key, name, value)
        check_pages(client, batch, name)
        redis.hset(key, name, before) if before is not None else redis.hdel(key, name)
    redis.set(f"{key}:callbacks", "[1]", keepttl=True)
    check_pages(client, batch, "callbacks")


def check_pages(client: TestClient, batch: Batch, what: str) -> None:
    for path in ("", "/part", "/all.json", "/members"):
        assert client.get(f"/{batch.bid}{path}").status_code in (200, 422), what
    assert client.get("/").status_code == 200
