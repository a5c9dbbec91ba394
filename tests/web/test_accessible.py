"""The page for everybody: in grey, enlarged, with motion reduced, and no view has an obstacle."""

from __future__ import annotations

import base64
from collections.abc import Callable
from itertools import chain, product
from statistics import mean, pstdev

import pytest
from axe_playwright_python.base import AXE_SCRIPT
from celery import Celery
from playwright.sync_api import Browser, Page, expect
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.web import status_page
from tests.web.conftest import ALL
from tests.web.scene import make_batch, report, serving, write_states
from tests.web.test_live import STANDARDS, WIDER

# Paints a picture and returns how light each pixel is, line by line, whatever its colour.
LIGHTNESS = """async picture => {
  const image = new Image(); image.src = "data:image/png;base64," + picture; await image.decode();
  const canvas = new OffscreenCanvas(image.width, image.height).getContext("2d");
  canvas.drawImage(image, 0, 0);
  const { data } = canvas.getImageData(0, 0, image.width, image.height);
  const grey = n => 0.2126 * data[n] + 0.7152 * data[n + 1] + 0.0722 * data[n + 2];
  return Array.from({ length: image.height }, (_, y) =>
    Array.from({ length: image.width }, (_, x) => grey(4 * (y * image.width + x))));
}"""
VIOLATIONS = """async tags => (await axe.run(document, {runOnly: tags})).violations.map(
  v => [v.id, v.nodes.map(n => n.html).slice(0, 3)])"""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return make_app(batches_web_url="http://testserver/", batches_web_secret="a secret of sixteen")


def alike(part: list[list[float]], across: int, down: int) -> float:
    """How much a part differs from itself, moved by so many pixels: 0 if the pattern runs that way."""
    rows, columns = len(part), len(part[0])
    places = product(range(2, rows - 2), range(2, columns - 2))
    return mean(abs(part[y][x] - part[y + down][x + across]) for y, x in places)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_in_grey_the_four_parts_of_a_bar_are_four(
    app: Celery, page: Page, browser: Browser, redis: Redis, scheme: str
) -> None:
    batch = make_batch(app, 1)
    quarters = {State.FAILING: range(100, 200), State.DEAD: range(200, 300), State.WAITING: range(300, 400)}
    write_states(redis, batch, 400, quarters)
    page.emulate_media(color_scheme=scheme)
    with serving(status_page(app)) as url:
        page.goto(f"{url}/{batch.bid}")
        picture = page.locator(".verdict .bar").screenshot()
    other = browser.new_page()
    grey = other.evaluate(LIGHTNESS, base64.b64encode(picture).decode())
    other.close()
    width = len(grey[0]) // 4
    inner = [[row[n * width + 8 : (n + 1) * width - 8] for row in grey[2:-2]] for n in range(4)]
    succeeded, failing, dead, waiting = inner
    flat = {name: pstdev(chain.from_iterable(part)) for name, part in zip("sfdw", inner, strict=True)}
    assert flat["s"] < 1 and flat["w"] < 1, "these two are plain"
    assert abs(mean(succeeded[0]) - mean(waiting[0])) > 30, "and differ in lightness"
    assert flat["f"] > 15 and flat["d"] > 15, "these two have a pattern"
    assert alike(failing, 2, -2) < alike(failing, 2, 2) / 3, "stripes run one way"
    one, other_way = alike(dead, 1, 1), alike(dead, 1, -1)
    assert max(one, other_way) < 1.5 * min(one, other_way), "a lattice runs both ways"


def test_nothing_moves_for_those_who_want_no_motion(app: Celery, page: Page) -> None:
    batch = make_batch(app, 2)
    moves = """() => [...document.querySelectorAll("*")].filter(n => {
      const style = getComputedStyle(n);
      return style.transitionDuration !== "0s" || style.animationName !== "none";
    }).length"""
    with serving(status_page(app)) as url:
        for wish, is_still in (("reduce", True), ("no-preference", False)):
            page.emulate_media(reduced_motion=wish)
            page.goto(f"{url}/{batch.bid}")
            assert (page.evaluate(moves) == 0) == is_still


@pytest.mark.parametrize(("width", "scheme"), [(320, "light"), (1280, "dark")])
def test_no_view_has_an_obstacle(app: Celery, page: Page, redis: Redis, width: int, scheme: str) -> None:
    page.emulate_media(color_scheme=scheme)
    page.set_viewport_size({"width": width, "height": 800})
    with serving(status_page(app, access=ALL)) as url:
        page.goto(f"{url}/")
        expect(page.locator(".empty")).to_contain_text("No batches yet")
        check(page, "empty list")
        parent = Batch("Nightly", app=app, keep_open=True)
        huge = make_batch(app, 1, "Huge")
        write_states(redis, huge, 1_000_000, {State.DEAD: [777_777], State.FAILING: [5], State.WAITING: [9]})
        child = Batch("Import " + "a-long-word" * 8, app=app, parent=parent, tags=["x" * 60])
        child.map(app.tasks["billing.tasks.send_invoice"], range(4))
        report(child, {0: State.DEAD, 1: State.FAILING})
        child.cancel()
        redis.hset(f"batches:{{{huge.bid}}}", "total", "many")
        broken = huge.bid
        share = child.share().rpartition("/")[2]
        for path in (parent.bid, f"{child.bid}?look=1", f"{child.bid}/delete", f"s/{share}", broken, ""):
            page.goto(f"{url}/{path}")
            for each in page.locator("summary").all():
                if not each.evaluate("node => node.parentNode.open"):
                    each.click()
            check(page, path)
        redis.hset(f"batches:{{{huge.bid}}}", "total", 1_000_000)
        page.goto(f"{url}/{huge.bid}")
        assert len(page.content()) < 60_000
        page.locator("#help").click()
        check(page, "a million members, and the keys")


def check(page: Page, what: str) -> None:
    assert page.evaluate(WIDER) == [], f"{what} scrolls sideways"
    page.evaluate(AXE_SCRIPT)
    assert page.evaluate(VIOLATIONS, STANDARDS) == [], what


def test_a_page_enlarged_to_twice_its_size_does_not_scroll_sideways(app: Celery, browser: Browser) -> None:
    batch = make_batch(app, 5)
    report(batch, {0: State.DEAD})
    context = browser.new_context(viewport={"width": 640, "height": 400}, device_scale_factor=2)
    page = context.new_page()
    with serving(status_page(app, access=ALL)) as url:
        for path in ("", batch.bid, f"{batch.bid}/members", f"{batch.bid}/retry"):
            page.goto(f"{url}/{path}")
            assert page.evaluate(WIDER) == [], path
    context.close()
