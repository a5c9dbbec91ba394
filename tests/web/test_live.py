"""Live in a browser: what moves is shown, and what somebody is at is left as it is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from urllib.request import urlopen

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from celery import Celery
from playwright.sync_api import Browser, Page, Route, expect
from redis import Redis
from starlette.responses import HTMLResponse
from starlette.testclient import TestClient
from starlette.types import Message, Receive, Scope, Send

from celery_batches_notify.membership import State
from celery_batches_notify.testing.server import find_free_port
from celery_batches_notify.web import live, status_page, wsgi_status_page
from tests.support.cut_proxy import cut_proxy
from tests.support.servers import wait_until
from tests.web.conftest import ALL
from tests.web.scene import make_batch, report, serving, serving_wsgi, write_states

SUCCEEDED, FAILING, DEAD, WAITING = State.SUCCEEDED, State.FAILING, State.DEAD, State.WAITING
# What sticks out at the right, if the page can be scrolled there.
WIDER = """() => document.documentElement.scrollWidth <= innerWidth ? [] :
  ["the page", ...[...document.querySelectorAll("main *, header *")].filter(
    n => n.getBoundingClientRect().right > innerWidth + 1).map(n => n.outerHTML.slice(0, 80))]"""
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture
def url(app: Celery) -> Iterator[str]:
    """A page where everybody may do everything."""
    with serving(status_page(app, access=ALL)) as url:
        yield url


@pytest.fixture(params=["stream", "poll", "wsgi"])
def live_url(request: pytest.FixtureRequest, app: Celery) -> Iterator[str]:
    """A page that streams, one that is asked, and one under WSGI, which has no streams."""
    if request.param == "wsgi":
        with serving_wsgi(wsgi_status_page(app, access=ALL)) as url:
            yield url
        return
    with serving(status_page(app, access=ALL, streams=500 if request.param == "stream" else 0)) as url:
        yield url


def test_what_moves_is_shown_to_its_end(app: Celery, page: Page, live_url: str) -> None:
    batch = make_batch(app, 30)
    page.goto(f"{live_url}/{batch.bid}")
    shown = page.locator("#n-succeeded")
    expect(shown).to_have_text("0")
    for done in (7, 20):
        report(batch, dict.fromkeys(range(done), SUCCEEDED))
        expect(shown).to_have_text(str(done), timeout=30_000)
    report(batch, dict.fromkeys(range(20, 30), SUCCEEDED))
    expect(page.locator(".verdict .badge")).to_contain_text("success", timeout=30_000)
    expect(page.locator("#sentence")).to_have_text("All 30 succeeded.")


def test_what_somebody_is_at_survives_a_hundred_updates(app: Celery, page: Page, redis: Redis) -> None:
    batch = make_batch(app, 300)
    report(batch, {299: DEAD, 298: DEAD, 297: FAILING})
    with serving(status_page(app, access=ALL)) as url:
        page.goto(f"{url}/{batch.bid}")
        page.evaluate(
            """() => {
              const live = document.getElementById("live");
              const box = document.createElement("input"); box.type = "checkbox"; box.id = "box";
              const text = document.createElement("input"); text.id = "text"; text.value = "abc def";
              live.before(box, text);
              document.querySelector("#failures details").open = true;
              box.checked = true;
              window.kept = document.querySelector("#a-retry");
              window.scrollTo(0, 300);
              window.updates = 0;
              const all = {subtree: true, childList: true, characterData: true, attributes: true};
              new MutationObserver(() => { window.updates += 1; }).observe(live, all);
            }"""
        )
        page.evaluate("document.querySelector('#a-retry').focus({preventScroll: true})")
        scrolled = page.evaluate("scrollY")
        done = 0
        while page.evaluate("window.updates") < 100:
            report(batch, {done: SUCCEEDED})
            done += 1
            expect(page.locator("#n-succeeded")).to_have_text(str(done))
        assert page.evaluate("document.activeElement === window.kept")
        assert page.evaluate("document.querySelector('#failures details').open")
        assert page.evaluate("document.getElementById('box').checked")
        assert page.evaluate("scrollY") == scrolled
        page.evaluate(
            """() => {
              const range = document.createRange();
              range.selectNodeContents(document.getElementById("sentence"));
              getSelection().removeAllRanges(); getSelection().addRange(range);
              window.chosen = getSelection().toString();
            }"""
        )
        report(batch, dict.fromkeys(range(done, done + 5), SUCCEEDED))
        text = page.locator("#text")
        text.evaluate("node => { node.focus(); node.setSelectionRange(2, 4); }")
        report(batch, dict.fromkeys(range(done, done + 9), SUCCEEDED))
        expect(page.locator("#n-succeeded")).to_have_text(str(done + 9))
        assert text.evaluate("node => [node.selectionStart, node.selectionEnd]") == [2, 4]
        page.locator("#a-retry").click()
        expect(page.locator(".plan")).to_contain_text("2 members will be sent again.")
        page.get_by_role("button", name="Retry").click()
        expect(page.locator("#a-retry")).to_have_count(0)
    assert batch.status().dead == 0


def test_text_that_is_selected_stays_until_it_is_let_go(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 30)
    page.goto(f"{url}/{batch.bid}")
    expect(page.locator("#link")).to_have_text("live")
    page.evaluate(
        """() => {
          const range = document.createRange();
          range.selectNodeContents(document.getElementById("sentence"));
          getSelection().removeAllRanges(); getSelection().addRange(range);
          window.chosen = getSelection().toString();
          window.frames_seen = 0;
        }"""
    )
    report(batch, dict.fromkeys(range(7), SUCCEEDED))
    with serving(status_page(app)) as other, page.context.new_page() as second:
        second.goto(f"{other}/{batch.bid}")
        expect(second.locator("#n-succeeded")).to_have_text("7")
    expect(page.locator("#link")).to_have_text("waits while you select")
    assert page.evaluate("getSelection().toString() === window.chosen")
    page.evaluate("getSelection().removeAllRanges()")
    expect(page.locator("#link")).to_have_text("live")
    expect(page.locator("#n-succeeded")).to_have_text("7")


def test_new_batches_announce_themselves_and_no_row_moves(app: Celery, page: Page, url: str) -> None:
    first = make_batch(app, 10, "First")
    page.goto(f"{url}/")
    make_batch(app, 0, "Second")
    report(first, dict.fromkeys(range(4), SUCCEEDED))
    expect(page.locator("#fresh")).to_contain_text("1 new batch")
    expect(page.locator(".row")).to_have_count(1)
    expect(page.locator(".row .figure")).to_have_text("4/10")
    page.locator("#fresh a").click()
    expect(page.locator(".row")).to_have_count(2)


def test_a_page_finds_its_way_back_when_the_server_was_away(app: Celery, page: Page) -> None:
    batch, free_port = make_batch(app, 30), find_free_port()
    with serving(status_page(app), free_port) as url:
        page.goto(f"{url}/{batch.bid}")
        expect(page.locator("#link")).to_have_text("live")
    report(batch, dict.fromkeys(range(9), SUCCEEDED))
    expect(page.locator("#link")).to_contain_text("trying again")
    with serving(status_page(app), free_port):
        expect(page.locator("#n-succeeded")).to_have_text("9")


def test_a_store_that_is_away_is_said_on_the_open_page_and_comes_back(
    app: Celery,
    make_app: Callable[..., Celery],
    page: Page,
    server_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(live, "REREAD_SECONDS", 0.3)
    batch = make_batch(app, 30)
    with cut_proxy(server_url) as (proxy, url):
        far = make_app(batches_backend_url=url)
        with serving(status_page(far)) as site:
            page.goto(f"{site}/{batch.bid}")
            expect(page.locator("#n-succeeded")).to_have_text("0")
            proxy.misbehave("refuse")
            expect(page.locator(".verdict")).to_contain_text("The store cannot be reached just now.")
            report(batch, dict.fromkeys(range(9), SUCCEEDED))
            proxy.behave()
            expect(page.locator("#n-succeeded")).to_have_text("9")


@pytest.mark.parametrize("status", [302, 403, 404, 500])
def test_an_answer_that_is_no_page_is_not_shown_as_one(app: Celery, browser: Browser, status: int) -> None:
    batch, refusing, page = make_batch(app, 9), [False], browser.new_page()
    ours = status_page(app, streams=0)

    async def behind_a_login(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/login":
            await HTMLResponse("Log in")(scope, receive, send)
        elif refusing[0] and scope["path"].endswith("/part"):
            await HTMLResponse("Log in", status, {"location": "/login"})(scope, receive, send)
        else:
            await ours(scope, receive, send)

    with serving(behind_a_login) as url:
        page.goto(f"{url}/{batch.bid}")
        expect(page.locator("#link")).to_have_text("live")
        refusing[0] = True
        expect(page.locator("#link")).to_have_text("no answer, trying again")
        expect(page.locator("#n-succeeded")).to_have_text("0")
        expect(page.locator("#live")).not_to_contain_text("Log in")
        report(batch, dict.fromkeys(range(9), SUCCEEDED))
        refusing[0] = False
        expect(page.locator("#n-succeeded")).to_have_text("9")
        expect(page.locator("#link")).to_have_text("live")
    page.close()


def test_a_browser_without_storage_shows_what_moves(app: Celery, page: Page, url: str) -> None:
    refuse = "{get() { throw new DOMException('', 'SecurityError'); }}"
    page.add_init_script(f"Object.defineProperty(window, 'localStorage', {refuse})")
    batch = make_batch(app, 9)
    page.goto(f"{url}/{batch.bid}")
    report(batch, dict.fromkeys(range(9), SUCCEEDED))
    expect(page.locator("#n-succeeded")).to_have_text("9")


def test_the_client_after_the_last_asks_instead(app: Celery, browser: Browser, page: Page) -> None:
    batch = make_batch(app, 30)
    with serving(status_page(app, streams=1)) as url:
        page.goto(f"{url}/{batch.bid}")
        expect(page.locator("#link")).to_have_text("live")
        second = page.context.new_page()
        second.goto(f"{url}/{batch.bid}")
        report(batch, dict.fromkeys(range(5), SUCCEEDED))
        expect(second.locator("#n-succeeded")).to_have_text("5")
        second.close()


def test_the_theme_is_the_systems_until_somebody_chooses_one(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 3)
    ground = "getComputedStyle(document.documentElement).backgroundColor"
    maps = "() => [...document.querySelectorAll('.map img')].map(img => img.checkVisibility())"
    page.emulate_media(color_scheme="dark")
    page.goto(f"{url}/{batch.bid}")
    dark = page.evaluate(ground)
    assert page.evaluate(maps) == [False, True]
    page.emulate_media(color_scheme="light")
    light = page.evaluate(ground)
    assert light != dark and page.evaluate(maps) == [True, False]
    button = page.locator("#theme")
    expect(button).to_have_text("Theme: ◐ auto")
    button.click()
    button.click()
    expect(button).to_have_text("Theme: ◐ dark")
    assert (page.evaluate(ground), page.evaluate(maps)) == (dark, [False, True])
    for path in ("", batch.bid, f"{batch.bid}/members", f"{batch.bid}/retry", "x" * 22):
        page.goto(f"{url}/{path}")  # it stays, and comes with the page: nothing flashes
        assert page.locator("html").get_attribute("data-theme") == "dark", path
        assert page.evaluate(ground) == dark, path
    page.goto(f"{url}/")
    button.click()
    assert page.evaluate(ground) == light
    page.reload()
    expect(button).to_have_text("Theme: ◐ auto")


def test_a_theme_that_is_none_is_the_systems(app: Celery) -> None:
    client = TestClient(status_page(app), cookies={"batches_theme": 'dark" onload="alert(1)'})
    assert "data-theme" not in client.get("/").text


def test_single_keys_can_be_looked_up_and_turned_off(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 3)
    page.goto(f"{url}/{batch.bid}")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("p")  # under an open dialog they do nothing
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#link")).to_have_text("live")
    page.keyboard.press("p")
    expect(page.locator("#link")).to_have_text("paused")
    page.locator("#help").click()
    page.get_by_role("checkbox").uncheck()
    page.get_by_role("button", name="Close").click()
    page.reload()
    expect(page.locator("#link")).to_have_text("live")
    page.keyboard.press("p")
    page.keyboard.press("?")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("#link")).to_have_text("live")
    page.locator("#help").click()
    page.get_by_role("checkbox").check()
    page.get_by_role("button", name="Close").click()
    page.keyboard.press("g")
    page.keyboard.press("l")
    page.wait_for_url(f"{url}/")


def test_a_key_acts_before_a_closed_dialogs_box_has_lost_the_focus(app: Celery, page: Page, url: str) -> None:
    page.goto(f"{url}/{make_batch(app, 3).bid}")
    page.evaluate("""() => {
      const keys = document.getElementById("keys");
      keys.showModal();
      document.getElementById("keys-on").focus();
      keys.close();
      document.activeElement.dispatchEvent(new KeyboardEvent("keydown", {key: "p", bubbles: true}));
    }""")
    expect(page.locator("#link")).to_have_text("paused")


def test_an_answer_that_comes_after_the_pause_changes_nothing(app: Celery, page: Page) -> None:
    batch = make_batch(app, 3)
    held: list[Route] = []
    with serving(status_page(app, access=ALL, streams=0)) as url:
        page.goto(f"{url}/{batch.bid}")
        page.route("**/part", lambda route: held.append(route))
        expect(page.locator("#link")).to_have_text("live")
        with page.expect_request("**/part"):
            pass
        page.keyboard.press("p")
        report(batch, {0: SUCCEEDED})
        with page.expect_response("**/part") as answer:
            held[0].continue_()
        answer.value.finished()
        page.evaluate("() => new Promise((done) => setTimeout(done))")
        expect(page.locator("#link")).to_have_text("paused")
        expect(page.locator("#n-succeeded")).to_have_text("0")


def test_everything_can_be_reached_with_the_keyboard(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 5, "Broken import")
    make_batch(app, 0, "Another")
    report(batch, {0: DEAD, 1: DEAD})
    page.goto(f"{url}/")
    page.keyboard.press("/")
    page.keyboard.type("broken")
    page.keyboard.press("Enter")
    page.wait_for_url("**/?q=broken*")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{batch.bid}")
    tab_to(page, "summary")
    page.keyboard.press("Enter")
    expect(page.locator("#failures pre")).to_be_visible()
    tab_to(page, "a[id^='r-']")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{batch.bid}/retry?group=*")
    tab_to(page, "button[type=submit]")
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{batch.bid}")
    assert batch.status().dead == 0


def tab_to(page: Page, selector: str) -> None:
    for _ in range(40):
        page.keyboard.press("Tab")
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
    pytest.fail(f"no key leads to {selector}")


def test_everything_works_without_javascript(app: Celery, browser: Browser, url: str) -> None:
    batch = make_batch(app, 5)
    report(batch, {0: DEAD, 1: SUCCEEDED})
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(f"{url}/")
    page.locator(".row a").first.click()
    expect(page.locator("#n-succeeded")).to_have_text("1")
    page.locator("#a-retry").click()
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#a-retry")).to_have_count(0)
    context.close()
    assert batch.status().dead == 0


def test_an_action_is_sent_once_however_often_it_is_clicked(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 5)
    page.goto(f"{url}/{batch.bid}/cancel")
    page.evaluate(
        "() => { window.stopped = []; addEventListener('submit', event => {"
        " stopped.push(event.defaultPrevented); event.preventDefault(); }) }"
    )
    button = page.get_by_role("button", name="Cancel")
    button.click()
    button.click()
    assert page.evaluate("stopped") == [False, True]
    page.evaluate("() => { dispatchEvent(new Event('pageshow')) }")
    button.click()
    assert page.evaluate("stopped") == [False, True, False]


def test_the_four_parts_of_a_bar_are_told_apart_without_colour(
    app: Celery, page: Page, url: str, redis: Redis
) -> None:
    batch = make_batch(app, 1)
    write_states(redis, batch, 1_000_000, {DEAD: [777_777], FAILING: [5], WAITING: [9]})
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        page.goto(f"{url}/{batch.bid}")
        widths = page.evaluate(
            "() => [...document.querySelectorAll('.verdict .bar rect')]"
            ".map(rect => rect.getBoundingClientRect().width)"
        )
        assert len(widths) == 4
        assert min(widths) >= 2
        fills = [rect.get_attribute("fill") for rect in page.locator(".verdict .bar rect").all()]
        assert fills == [None, "url(#hatch)", "url(#cross)", None]
        assert page.evaluate("document.querySelector('#cross path').getAttribute('d').length") > 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_page_has_an_obstacle(app: Celery, page: Page, url: str, redis: Redis, scheme: str) -> None:
    batch = make_batch(app, 30, tags=["customer:42"], on=[("success", make_task(app))])
    report(batch, {**dict.fromkeys(range(20), SUCCEEDED), 20: DEAD, 21: FAILING})
    still, done = make_batch(app, 2, "Still"), make_batch(app, 0, "Done")
    redis.hset(f"batches:{{{still.bid}}}", "reported_at", 1_000_000)
    page.emulate_media(color_scheme=scheme)
    paths = ("", batch.bid, still.bid, done.bid, f"{batch.bid}/members", f"{batch.bid}/retry", "x" * 22)
    for width in (320, 768, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        for path in (*paths, "?q=nothing"):
            page.goto(f"{url}/{path}")
            assert page.evaluate(WIDER) == [], f"{path} scrolls sideways at {width}"
            if width == 768 and scheme == "light":
                continue  # the rules do not depend on every width
            page.evaluate(AXE_SCRIPT)
            found = page.evaluate(
                "async tags => (await axe.run(document, {runOnly: tags})).violations.map("
                "v => [v.id, v.nodes.map(n => n.html).slice(0, 3)])",
                STANDARDS,
            )
            assert found == [], (path, width)


def make_task(app: Celery) -> object:
    def notice(*_: object) -> None: ...

    return app.task(name="billing.tasks.notice", shared=False)(notice).s()


def test_a_row_that_left_the_list_shows_no_old_figures(app: Celery, page: Page, url: str) -> None:
    batch = make_batch(app, 10, "First")
    report(batch, {0: FAILING})
    page.clock.install()
    page.goto(f"{url}/?state=failing")
    row, figure = page.locator(".row"), page.locator(".row .figure")
    expect(figure).to_have_text("0/10")
    report(batch, {0: SUCCEEDED})
    hasten(page, lambda: "no longer on this page" in row.inner_text())
    assert not figure.is_visible()
    assert not row.locator(".badge").is_visible()
    report(batch, {1: FAILING})
    hasten(page, figure.is_visible)
    assert figure.inner_text() == "1/10"
    assert "no longer on this page" not in row.inner_text()


@pytest.mark.parametrize("passing", [0, 1], ids=["from the beginning", "after the first drawing"])
def test_a_stream_that_a_proxy_holds_back_is_given_up(app: Celery, page: Page, passing: int) -> None:
    batch, ours = make_batch(app, 9), status_page(app)

    async def behind_a_proxy(scope: Scope, receive: Receive, send: Send) -> None:
        await ours(scope, receive, hold(send, passing) if scope["path"].endswith("/live") else send)

    page.clock.install()
    with serving(behind_a_proxy) as url:
        page.goto(f"{url}/{batch.bid}")
        report(batch, dict.fromkeys(range(9), SUCCEEDED))
        hasten(page, lambda: page.locator("#n-succeeded").text_content() == "9")
        expect(page.locator("#link")).to_have_text("live")


def test_a_stream_that_fell_silent_once_is_opened_again(app: Celery, page: Page) -> None:
    batch, ours, opened, asked = make_batch(app, 9), status_page(app), [], []

    async def silent_at_first(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].endswith("/live"):
            opened.append(scope)
            if len(opened) == 1:
                await asyncio.to_thread(report, batch, {0: SUCCEEDED})
                send = hold(send, passing=1)
        await ours(scope, receive, send)

    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    page.clock.install()
    with serving(silent_at_first) as url:
        page.goto(f"{url}/{batch.bid}")
        expect(page.locator("#n-succeeded")).to_have_text("1")
        report(batch, {1: SUCCEEDED})
        page.clock.fast_forward(41_000)
        expect(page.locator("#n-succeeded")).to_have_text("2")
        report(batch, {2: SUCCEEDED})
        expect(page.locator("#n-succeeded")).to_have_text("3")
        page.close()  # else its stream would keep the server, which does not know the page
    assert len(opened) == 2
    assert "part" not in asked


def hold(send: Send, passing: int) -> Send:
    """Let the head of an answer and so many parts of its body pass, and nothing more."""
    left = iter(range(passing + 1))

    async def sending(message: Message) -> None:
        if next(left, None) is not None:
            await send(message)

    return sending


def hasten(page: Page, is_true: Callable[[], bool]) -> None:
    """Let the page's time go fast until this is true."""
    wait_until(lambda: page.clock.fast_forward(10_000) or is_true(), what="the page")


def test_a_stream_that_stands_still_pings(app: Celery, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "PING_SECONDS", 0.05)
    with urlopen(f"{url}/{make_batch(app, 9).bid}/live", timeout=30) as stream:
        while stream.readline() != b"event: ping\r\n":
            pass
        assert stream.readline().startswith(b"data: -")


def test_a_stream_asks_anew_whether_its_user_may_read(
    app: Celery, browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "STREAM_SECONDS", 1.0)
    batch, grants, asked, page = make_batch(app, 9), [{"read"}], [], browser.new_page()
    page.on("request", lambda request: asked.append(request.url.rpartition("/")[2]))
    with serving(status_page(app, access=lambda _: grants[0])) as url:
        page.goto(f"{url}/{batch.bid}")
        page.wait_for_event("request", lambda _: asked.count("live") > 2)
        assert "part" not in asked
        grants[0] = set()
        expect(page.locator("#link")).to_have_text("no answer, trying again")
        report(batch, dict.fromkeys(range(9), SUCCEEDED))
        grants[0] = {"read"}
        expect(page.locator("#n-succeeded")).to_have_text("9")
    page.close()
