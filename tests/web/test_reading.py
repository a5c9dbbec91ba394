"""The content of the page and its JSON, and their errors for batches that cannot be shown."""

from __future__ import annotations

import gzip
import json
import re
import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from celery import Celery
from redis import Redis
from starlette.testclient import TestClient

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.headline import Verdict, describe
from celery_batches_notify.member_map import draw_map
from celery_batches_notify.membership import State
from celery_batches_notify.model import STATES
from celery_batches_notify.pace import Pace
from celery_batches_notify.store.parsing import parse_time
from celery_batches_notify.web.census import TABS
from celery_batches_notify.web.maps import COLOURS
from celery_batches_notify.web.sharing import Shared
from tests.docs.pages import read_page, read_tables
from tests.support.terminal import Commands
from tests.web.scene import fail, make_batch, report, write_states

CSP = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
DEAD, FAILING, SUCCEEDED = State.DEAD, State.FAILING, State.SUCCEEDED


def half_done(app: Celery) -> Batch:
    batch = make_batch(app, 20, tags=["customer:42"])
    report(batch, {**dict.fromkeys(range(10), SUCCEEDED), 10: DEAD, 11: DEAD, 12: FAILING})
    return batch


def test_a_batch_is_shown_with_its_sentence_and_figures(app: Celery, client: TestClient) -> None:
    batch = half_done(app)
    html = client.get(f"/{batch.bid}").text
    assert "Import rows" in html
    sentence = describe(batch.status())
    assert sentence.partition("done")[2] in html
    for figure in ("10 succeeded", "1 failing", "2 dead", "7 waiting"):
        assert figure in html
    assert f"batch doctor {batch.bid}" in html
    assert "2 are dead: until they are retried, success cannot come" in html
    assert "dead: #10, #11" in html


def test_a_finished_batch_that_is_retried_has_one_sentence_everywhere(
    app: Celery, client: TestClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(app, 4)
    report(batch, {0: DEAD, 1: SUCCEEDED, 2: SUCCEEDED, 3: SUCCEEDED})
    batch.retry()
    assert batch.status().finish_at is not None
    three_days = timedelta(days=3, hours=1, minutes=30)
    moved_at = parse_time(redis.time()) - three_days
    redis.hset(f"batches:{{{batch.bid}}}", "reported_at", int(moved_at.timestamp() * 1000))
    sentence = "Nothing has moved for 3 d 1 h, 3 of 4 succeeded, 1 failed and will be retried"
    assert sentence in client.get(f"/{batch.bid}").text
    assert client.get(f"/{batch.bid}/all.json").json()["sentence"] == sentence
    assert client.get("/list.json").json()["batches"][0]["sentence"] == sentence
    command = Commands(app=app, monkeypatch=monkeypatch)
    line = f"⚠ {sentence}: Import rows"
    for verb in ("show", "doctor"):
        assert command(verb, batch.bid).stdout.splitlines()[0] == line
        assert line in [record.get("headline") for record in command(verb, batch.bid, "--json").records]


def test_the_json_of_a_batch_is_its_status(app: Celery, client: TestClient) -> None:
    batch = half_done(app)
    body = client.get(f"/{batch.bid}.json").json()
    expected = batch.status().as_dict()
    assert {**body, "expires_at": None} == {**expected, "expires_at": None}


def test_a_batch_is_shown_within_its_family(app: Celery, client: TestClient) -> None:
    parent = Batch("Nightly", app=app, keep_open=True)
    eu, us = (make_batch(app, 3, description=name, parent=parent) for name in ("EU", "US"))
    report(us, {0: DEAD})
    family = client.get(f"/{eu.bid}/all.json").json()["family"]
    assert [each["bid"] for each in family["ancestors"]] == [parent.bid]
    assert [(each["bid"], each["dead"]) for each in family["siblings"]] == [(us.bid, 1)]
    assert family["children"] == []
    html = client.get(f"/{eu.bid}").text
    assert "1 batch beside it" in html
    assert re.search(rf'id="siblings".*href="[^"]*{us.bid}"', html, re.DOTALL)
    assert "beside it" not in client.get(f"/{parent.bid}").text


def test_only_the_first_of_many_siblings_are_read(app: Celery, client: TestClient) -> None:
    parent = Batch("Nightly", app=app, keep_open=True)
    children = [make_batch(app, 1, parent=parent) for _ in range(55)]
    assert "The first 50 batches beside it" in client.get(f"/{children[7].bid}").text


def test_all_that_the_page_shows_is_json_too(app: Celery, client: TestClient) -> None:
    batch = half_done(app)
    body = client.get(f"/{batch.bid}/all.json").json()
    assert body["verdict"] == "dead"
    assert body["sentence"].endswith("10 of 20 succeeded, 2 failed for good, 1 will be retried")
    assert [why["words"] for why in body["why"]][:1] == [
        "2 are dead: until they are retried, success cannot come"
    ]
    (kind,) = body["failures"]["kinds"]
    assert (kind["count"], kind["dead"], kind["title"]) == (3, 2, "KeyError in send_invoice")
    assert body["clusters"] == ["dead: #10, #11", "failing: #12"]
    assert body["pace"]["left"] == 8


def test_the_keys_of_the_pages_json_are_those_of_its_how_to(app: Celery, client: TestClient) -> None:
    batch, page = half_done(app), "how-to/status-page.md"
    (table,) = [table for table in read_tables(page) if table[0][0] == "address"]
    named = {row[0].strip("`"): set(re.findall(r"`([a-z_]+)`", row[2])) for row in table[1:]}
    shared = Shared(status=batch.status(), sentence="", verdict=Verdict.DEAD, pace=Pace(left=0))
    answers = {"/s/<token>.json": shared.as_dict(), "/<bid>.json": {}}
    for address in named.keys() - answers.keys():
        answers[address] = client.get(address.replace("<bid>", batch.bid)).json()
    assert {at: keys - {"from", "after"} for at, keys in named.items()} == {
        at: set(answer) for at, answer in answers.items()
    }
    assert all(f"`{word}`" in read_page(page) for word in (*Verdict, *filter(None, TABS)))


def test_a_page_stays_small_though_every_failure_is_of_another_kind(app: Celery, client: TestClient) -> None:
    batch = make_batch(app, 100)
    failures = {n: fail(f"Error{chr(65 + n % 26)}{chr(65 + n // 26)}", code="x" * 3_500) for n in range(100)}
    report(batch, dict.fromkeys(range(100), DEAD), failures)
    answer = client.get(f"/{batch.bid}")
    assert len(answer.content) < 60_000
    assert "Failures: 100 kinds" in answer.text and "The 10 most frequent kinds are shown." in answer.text
    assert len(client.get(f"/{batch.bid}/all.json").json()["failures"]["kinds"]) == 100


@pytest.mark.parametrize("total", [0, 1, 3, 1000, 40_003])
def test_a_pixel_of_the_map_is_a_member(app: Celery, client: TestClient, redis: Redis, total: int) -> None:
    batch = make_batch(app, min(total, 1))
    if total > 1:
        write_states(redis, batch, total, {DEAD: [0, total - 1], FAILING: [total // 2]})
    answer = client.get(f"/{batch.bid}/map.png")
    states = redis.get(f"batches:{{{batch.bid}}}:states") or b""
    assert answer.content == draw_map(states, total, COLOURS["light"])
    again = client.get(f"/{batch.bid}/map.png", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_page_of_members_goes_on_where_the_last_one_ended(
    app: Celery, client: TestClient, redis: Redis
) -> None:
    batch = make_batch(app, 1)
    dead = list(range(0, 1000, 4))
    write_states(redis, batch, 1000, {DEAD: dead})
    seen, path = [], f"/{batch.bid}/members.json?state=dead"
    while True:
        body = client.get(path).json()
        seen += [member["index"] for member in body["members"]]
        assert len(body["members"]) <= 100
        if body["next"] is None:
            break
        path = f"/{batch.bid}/members.json?state=dead&from={body['next']}"
    assert seen == dead
    html = client.get(f"/{batch.bid}/members?from=998").text
    assert [int(n) for n in re.findall(r'<th scope="row">(\d+)</th>', html)] == [998, 999]


@pytest.mark.parametrize("given", ["1--100000000", "-1", "1e9", "9" * 40, "²", "x", ""])
def test_no_parameter_breaks_the_list_of_members(app: Celery, client: TestClient, given: str) -> None:
    batch = make_batch(app, 3)
    answer = client.get(f"/{batch.bid}/members", params={"from": given, "state": given, "theme": given})
    assert answer.status_code == 200


# -- the list -------------------------------------------------------------------------------------


def bids_of(client: TestClient, path: str = "/list.json") -> list[str]:
    return [each["bid"] for each in client.get(path).json()["batches"]]


def test_the_list_is_filtered_by_state_text_bid_and_tag(app: Celery, client: TestClient) -> None:
    half = half_done(app)
    time.sleep(0.002)  # of two that are opened in one millisecond, either may come first
    done = make_batch(app, 0, "Nightly", tags=["a b"])
    time.sleep(0.002)
    quiet = make_batch(app, 2, "Import more", tags=["customer:421"])
    expected = {
        "": [quiet, done, half],
        "?state=live": [quiet, half],
        "?state=hands": [half],
        "?state=failing": [half],
        "?state=done": [done],
        "?state=running": [quiet, half],
        "?state=nonsense": [quiet, done, half],
        "?q=IMPORT": [quiet, half],
        "?q=tag:customer:42": [half],
        "?q=tag:a b": [done],
        f"?q={half.bid[:12]}": [half],
        "?q=nothing": [],
    }
    for query, batches in expected.items():
        assert bids_of(client, f"/list.json{query}") == [batch.bid for batch in batches], query
    answer = client.get(f"/?q={half.bid}", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, f"./{half.bid}")


def test_what_needs_hands_stands_first(app: Celery, client: TestClient) -> None:
    half = half_done(app)
    later = make_batch(app, 2, "Later")
    html = client.get("/").text
    assert html.index(f"b-{half.bid}") < html.index(f"b-{later.bid}")
    assert html.count(f'id="b-{half.bid}"') == 1


def test_batches_of_one_millisecond_are_each_seen_once(app: Celery, client: TestClient, redis: Redis) -> None:
    pattern = make_batch(app, 1)
    fields = redis.hgetall(f"batches:{{{pattern.bid}}}")
    batches = [f"same-moment-{n:04}" for n in range(1000)]

    def add(bids: list[str]) -> None:
        with redis.pipeline() as pipe:
            for bid in bids:
                pipe.hset(f"batches:{{{bid}}}", mapping=fields)
                pipe.expire(f"batches:{{{bid}}}", 600)
                pipe.zadd("batches:index", {bid: 1_700_000_000_000})
            pipe.execute()

    add(batches)
    seen: list[str] = []
    path, pages = "/list.json?q=same-moment", 0
    while True:
        body = client.get(path).json()
        seen += [each["bid"] for each in body["batches"]]
        pages += 1
        add([f"other-moment-{pages:03}-{n}" for n in range(5)])
        redis.unlink(*[f"batches:{{{bid}}}" for bid in (f"other-moment-{pages:03}-{n}" for n in range(5))])
        if body["next"] is None:
            break
        path = f"/list.json?q=same-moment&after={body['next']}"
    assert sorted(seen) == batches


def test_a_scan_that_ends_early_says_so_and_goes_on(
    app: Celery, client: TestClient, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    wanted = make_batch(app, 0, "needle")
    for n in range(12):
        make_batch(app, 0, f"hay {n}")
    monkeypatch.setattr("celery_batches_notify.web.listing.LOOKED_AT_MOST", 5)
    path, looks = "/list.json?q=needle", []
    for _ in range(3):
        body = client.get(path).json()
        looks.append((body["looked_at"], body["total"], [each["bid"] for each in body["batches"]]))
        path = f"/list.json?q=needle&after={body['next']}"
    assert looks == [(5, 13, []), (5, 13, []), (3, 13, [wanted.bid])]


@pytest.mark.parametrize(
    "cursor", ["x", "1.", "1.!", "9" * 30 + ".aaaaaaaaaaaa", "1.aaaaaaaaaa\n", "nan.aaaaaaaaaa"]
)
def test_a_cursor_that_is_none_begins_at_the_newest(app: Celery, client: TestClient, cursor: str) -> None:
    batch = make_batch(app, 0)
    answer = client.get("/list.json", params={"after": cursor})
    assert [each["bid"] for each in answer.json()["batches"]] == [batch.bid]


# -- what cannot be shown ---------------------------------------------------------------------------


def break_it(how: str, batch: Batch, redis: Redis) -> tuple[str, int, str]:
    key = f"batches:{{{batch.bid}}}"
    if how == "malformed":
        return "not!a!batch", 404, "malformed_bid"
    if how == "unknown":
        return "x" * 22, 404, "no_such_batch"
    if how == "deleted":
        batch.delete()
        return batch.bid, 404, "no_such_batch"
    if how == "newer":
        redis.hset(key, "schema", 99)
        return batch.bid, 409, "newer_schema"
    if how == "corrupt":
        redis.hset(key, "total", "many")
    else:
        redis.unlink(key)
        redis.set(key, "what is this?", ex=60)
    return batch.bid, 422, "corrupt_batch"


@pytest.mark.parametrize("how", ["malformed", "unknown", "deleted", "newer", "corrupt", "type"])
def test_a_bad_batch_is_explained_on_every_address(
    app: Celery, client: TestClient, redis: Redis, how: str
) -> None:
    bid, status, code = break_it(how, half_done(app), redis)
    for path in ("", "/part", "/all.json", "/map.png", "/members", "/members.json"):
        answer = client.get(f"/{bid}{path}")
        if path == "/part" and how != "malformed":
            assert answer.status_code == 200
            assert code.replace("_", " ") in answer.text
        else:
            assert answer.status_code == status, path
    assert client.get(f"/{bid}.json").json()["error"] == code
    assert client.get("/").status_code == 200


def test_a_store_that_is_away_is_said_and_comes_back(
    app: Celery, client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = half_done(app)
    store = find_engine(app).store
    good = store.client
    bad = Redis(host="127.0.0.1", port=1)
    store.__dict__["client"] = bad
    store.__dict__.pop("lists", None)
    for path in ("/", f"/{batch.bid}", f"/{batch.bid}/members"):
        answer = client.get(path)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert "The store cannot be reached just now." in answer.text
        assert answer.headers["refresh"] == "5", "it comes back by itself"
    assert client.get("/list.json").json()["error"] == "store_away"
    bad.close()
    store.__dict__["client"] = good
    store.__dict__.pop("lists", None)
    assert client.get(f"/{batch.bid}").status_code == 200


def test_every_answer_has_the_strict_headers(
    app: Celery, client_of: Callable[..., TestClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = half_done(app)
    client = client_of(access=("read", "retry"))
    part = f"/{make_batch(app, 0).bid}/part"  # it has ended: its page does not say how long it has run

    def explode(*_: object) -> None:
        raise RuntimeError("a secret")

    answers = {
        200: client.get(f"/{batch.bid}"),
        304: client.get(part, headers={"If-None-Match": client.get(part).headers["etag"]}),
        403: client.get(f"/{batch.bid}/delete"),
        404: client.get("/no/such/page/at/all"),
        405: client.put("/"),
    }
    refused = client_of(access=lambda _: ())
    answers |= {4030: refused.get("/")}
    monkeypatch.setattr("celery_batches_notify.web.application.read_view", explode)
    answers |= {500: client.get(f"/{batch.bid}")}
    for status, answer in answers.items():
        assert answer.status_code == status % 10_000 // (10 if status > 999 else 1)
        assert answer.headers["content-security-policy"] == CSP, status
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store", status
        assert "a secret" not in answer.text


def test_an_asset_is_kept_and_no_other_file_is_served(client: TestClient) -> None:
    html = client.get("/").text
    for path in re.findall(r'(?:src|href)="\./(assets/[^"]+)"', html):
        answer = client.get(f"/{path}")
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    for name in ("idiomorph.LICENSE", "../access.py", "%2e%2e/access.py", "nothing"):
        assert client.get(f"/assets/{name}").status_code == 404


def test_what_the_browser_loads_is_small(client: TestClient) -> None:
    html = client.get("/").text
    bodies = [
        client.get(f"/{path}").content for path in re.findall(r'(?:src|href)="\./(assets/[^"]+)"', html)
    ]

    assert sum(map(len, bodies)) <= 40_000
    assert sum(len(gzip.compress(body)) for body in bodies) <= 12_000


def test_a_page_of_many_members_is_as_long_as_one_of_few(
    app: Celery, client: TestClient, redis: Redis
) -> None:
    few, many = half_done(app), make_batch(app, 1)
    write_states(redis, many, 200_000, {DEAD: range(100), FAILING: range(500, 600)})
    sizes = [len(client.get(f"/{batch.bid}").content) for batch in (few, many)]
    assert max(sizes) <= 60_000
    assert sizes[1] <= 1.1 * sizes[0]


def test_every_state_has_a_page(app: Celery, client: TestClient, redis: Redis) -> None:
    batches = {state: make_batch(app, 2) for state in STATES}
    batches["open"] = Batch("o", app=app, keep_open=True)
    batches["open"].map(app.tasks["billing.tasks.send_invoice"], [1])
    report(batches["success"], {0: SUCCEEDED, 1: SUCCEEDED})
    report(batches["dead"], {0: SUCCEEDED, 1: DEAD})
    report(batches["complete"], {0: SUCCEEDED, 1: FAILING})
    batches["cancelled"].cancel()
    redis.hset(f"batches:{{{batches['stalled'].bid}}}", "reported_at", 1_000_000)
    for state, batch in batches.items():
        assert client.get(f"/{batch.bid}.json").json()["state"] == state
        html = client.get(f"/{batch.bid}").text
        assert f"</span> {state}</span>" in html


def test_failures_of_one_kind_stand_together_with_the_window_they_were_seen_in(
    make_app: Callable[..., Celery], redis: Redis
) -> None:
    app = make_app(batches_failures_kept=30)
    batch = make_batch(app, 60)
    kinds = [
        fail("KeyError", "'vat'", line=41),
        fail("ConnectionError", "10.0.0.7:5432 refused", line=88),
        fail("ValueError", "row 7 of /in/7.csv", line=9),
    ]
    report(batch, dict.fromkeys(range(60), DEAD), {n: kinds[n % 3] for n in range(60)})
    from celery_batches_notify.web import status_page

    client = TestClient(status_page(app))
    html = client.get(f"/{batch.bid}").text
    assert "Failures: 3 kinds" in html
    assert "Grouped over the 30 that are kept of 60." in html
    assert json.loads(client.get(f"/{batch.bid}/all.json").text)["failures"]["of"] == 60
