"""Links that share one batch, the widget that shows it, and what notebooks show."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from celery import Celery
from playwright.sync_api import Browser, expect
from starlette.applications import Starlette
from starlette.responses import HTMLResponse
from starlette.routing import Mount, Route
from starlette.testclient import TestClient

from celery_batches_notify import ConfigurationError
from celery_batches_notify.membership import State
from celery_batches_notify.settings import Settings
from celery_batches_notify.share_link import read_share, sign_share
from celery_batches_notify.web import status_page
from tests.web.scene import make_batch, report, serving

SECRET = "a secret of sixteen"


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app(batches_web_url="http://testserver/", batches_web_secret=SECRET)


def test_a_link_shows_how_far_a_batch_is_and_neither_ids_nor_failures(app: Celery) -> None:
    batch = make_batch(app, 4, "Import rows", tags=["customer:42"])
    report(batch, {0: State.SUCCEEDED, 1: State.DEAD})
    url = batch.share()
    client = TestClient(status_page(app, access=lambda _: ()))
    page, body = client.get(url), client.get(f"{url}.json")
    assert "Import rows" in page.text
    assert {k: body.json()[k] for k in ("total", "succeeded", "dead", "progress", "finished")} == {
        "total": 4,
        "succeeded": 1,
        "dead": 1,
        "progress": 0.5,
        "finished": False,
    }
    for answer in (page, body):
        assert answer.status_code == 200
        for hidden in (batch.bid, "KeyError", "vat", "customer:42", "send_invoice"):
            assert hidden not in answer.text


def test_a_link_is_good_for_one_batch_until_it_expires() -> None:
    token = sign_share(SECRET, "a" * 22, 1000)
    assert read_share(SECRET, token, 999) == "a" * 22
    assert read_share(SECRET, token, 1000) is None
    assert read_share("another secret, long", token, 999) is None
    for forged in (
        token.replace("a" * 22, "b" * 22),
        token.replace(".1000.", ".2000."),
        token[:-1],
        "",
        "a.b.c",
    ):
        assert read_share(SECRET, forged, 999) is None
    assert read_share(SECRET, token + "ä", 999) is None


def test_a_forged_link_and_one_of_a_batch_that_is_gone_show_nothing(app: Celery) -> None:
    batch = make_batch(app, 0)
    url = batch.share(timedelta(hours=1))
    client = TestClient(status_page(app))
    assert client.get(url[:-2]).status_code == 404
    assert client.get(f"/s/{sign_share(SECRET, batch.bid, int(time.time()) - 1)}").status_code == 404
    batch.delete()
    assert client.get(url).status_code == 404


def test_sharing_needs_an_address_and_a_secret(make_app: Callable[..., Celery]) -> None:
    for conf in ({}, {"batches_web_url": "https://x.example"}, {"batches_web_secret": SECRET}):
        with pytest.raises(ConfigurationError, match="set batches_web_url and batches_web_secret"):
            make_batch(make_app(**conf), 0).share()
    short = Celery("x", broker="memory://", set_as_current=False)
    short.conf.update(batches_backend_url="redis://localhost", batches_web_secret="short")
    with pytest.raises(ConfigurationError, match="at least 16 characters"):
        Settings.from_app(short)


def test_a_shared_page_is_kept_up_to_date(app: Celery, browser: Browser) -> None:
    batch = make_batch(app, 4, "Import rows")
    token = batch.share().rpartition("/")[2]
    page = browser.new_page()
    with serving(status_page(app, access=lambda _: ())) as url:
        page.goto(f"{url}/s/{token}")
        report(batch, dict.fromkeys(range(4), State.SUCCEEDED))
        expect(page.locator(".say")).to_contain_text("All 4 succeeded.")
        assert page.request.get(f"{url}/s/x/part").status == 404
    page.close()


def test_a_widget_on_another_site_shows_a_shared_batch(app: Celery, browser: Browser) -> None:
    page = browser.new_page()
    batch = make_batch(app, 4, "Import rows")
    sites: list[str] = []
    token = batch.share().rpartition("/")[2]

    async def host(_: object) -> HTMLResponse:
        return HTMLResponse(
            f"""<!doctype html><title>x</title>
            <script type=module src="{sites[0]}/assets/batch-progress.js"></script>
            <batch-progress src="{sites[0]}/s/{token}.json"></batch-progress>
            <batch-progress class=bad src="{sites[0]}/s/x.json"></batch-progress>"""
        )

    with serving(Starlette(routes=[Route("/", host)])) as theirs:
        ours = status_page(app, widget_origins=[theirs])
        with serving(ours) as url:
            sites.append(url)
            page.goto(theirs)
            words = page.locator("batch-progress span")
            expect(words.first).to_contain_text("0 of 4 succeeded")
            report(batch, dict.fromkeys(range(4), State.SUCCEEDED))
            expect(words.first).to_have_text("All 4 succeeded")
            assert page.locator("progress").first.evaluate("bar => bar.value") == 1
            read = "url => fetch(url).then(() => 'read', () => 'refused')"
            assert page.evaluate(read, f"{url}/list.json") == "refused"
            assert page.evaluate(read, f"{url}/s/{token}.json") == "read"
            page.close()


def test_a_widget_may_get_its_link_late_and_be_moved(app: Celery, browser: Browser) -> None:
    token = make_batch(app, 4).share().rpartition("/")[2]
    asked: list[str] = []
    with serving(status_page(app)) as url:
        page = browser.new_page()
        page.on("request", lambda request: asked.append(request.url))
        page.clock.install()
        page.goto(f"{url}/s/{token}")
        page.evaluate(
            """(src) => new Promise((done) => {
              const script = Object.assign(document.createElement("script"), { type: "module", src });
              script.onload = done;
              document.head.append(script);
            })""",
            f"{url}/assets/batch-progress.js",
        )
        page.evaluate("() => document.body.append(window.widget = document.createElement('batch-progress'))")
        expect(page.locator("batch-progress span")).to_have_text("")
        link = f"{url}/s/{token}.json"
        page.evaluate("link => widget.setAttribute('src', link)", link)
        expect(page.locator("batch-progress span")).to_contain_text("0 of 4 succeeded")
        page.evaluate("() => { for (let n = 0; n < 5; n += 1) document.body.prepend(widget); }")
        expect(page.locator("batch-progress span")).to_contain_text("0 of 4 succeeded")
        before = asked.count(link)
        for _ in range(3):
            with page.expect_response(link):
                page.clock.run_for(2000)
            page.evaluate("() => fetch('robots.txt').then((answer) => answer.text())")
        assert asked.count(link) == before + 3, "one of them asks for all"
        assert not [each for each in asked if each.endswith("/null")]
        page.close()


def test_only_the_sites_that_are_named_may_read_what_is_shared(app: Celery) -> None:
    url = make_batch(app, 0).share()
    client = TestClient(status_page(app, widget_origins=["https://shop.example"]))
    allowed = {}
    for origin in ("https://shop.example", "https://evil.example"):
        for path in (f"{url}.json", "/assets/batch-progress.js", "/list.json"):
            answer = client.get(path, headers={"origin": origin})
            allowed[origin, path.rpartition(".")[2]] = answer.headers.get("access-control-allow-origin")
            if path == "/list.json":
                assert allowed.pop((origin, "json")) is None
    assert {origin for origin in allowed.values() if origin} == {"https://shop.example"}
    assert allowed["https://evil.example", "js"] is None


def test_two_mounts_in_one_application_do_not_mix(app: Celery) -> None:
    both = Starlette(
        routes=[Mount("/a", status_page(app)), Mount("/b", status_page(app, access=lambda _: ()))]
    )
    client = TestClient(both)
    assert (client.get("/a/").status_code, client.get("/b/").status_code) == (200, 403)
