"""Who may do what, what a forged request gets, and what an action does."""

from __future__ import annotations

import base64
import logging
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import pytest
from celery import Celery
from redis import Redis
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.testclient import TestClient

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import State
from celery_batches_notify.web import Access, basic_auth, status_page
from celery_batches_notify.web.access import FormTokens
from tests.web.conftest import ALL, SAME_SITE, accept, inputs
from tests.web.scene import fail, make_batch, report, serving, write_states

ACTIONS = ("retry", "cancel", "seal", "delete", "redeliver?event=success")
CALLED = "billing.tasks.called"


def do_nothing(*_: object) -> None:
    """Be a task."""


@pytest.fixture
def batch(app: Celery) -> Batch:
    """An open batch with a dead member, and a callback that has fired."""
    called = app.task(name=CALLED, shared=False)(do_nothing)
    batch = Batch("Import rows", app=app, keep_open=True)
    batch.on("cancel", called.si())
    task = app.task(name="billing.tasks.send_invoice", shared=False)(do_nothing)
    batch.map(task, range(4))
    report(batch, {0: State.SUCCEEDED, 1: State.DEAD})
    return batch


def path_of(batch: Batch, action: str) -> str:
    return f"/{batch.bid}/{action}".replace("event=success", "event=cancel")


def test_nothing_can_be_changed_unless_it_is_granted(
    client_of: Callable[..., TestClient], batch: Batch
) -> None:
    reader, writer = client_of(), client_of(access=ALL)
    for action in ACTIONS:
        path = path_of(batch, action)
        form = writer.get(path)
        assert form.status_code == 200
        answer = reader.post(path.partition("?")[0], data=dict(inputs(form.text)), headers=SAME_SITE)
        assert (answer.status_code, reader.get(path).status_code) == (403, 403)
    html = reader.get(f"/{batch.bid}").text
    assert not any(f"/{action.partition('?')[0]}" in html for action in ACTIONS)
    assert batch.status().dead == 1


def test_one_grant_gives_one_action(client_of: Callable[..., TestClient], batch: Batch) -> None:
    for granted in ACTIONS:
        client = client_of(access=("read", granted.partition("?")[0]))
        allowed = [a for a in ACTIONS if client.get(path_of(batch, a)).status_code == 200]
        assert allowed == [granted]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"sec-fetch-site": "same-origin"}, 303),
        ({"sec-fetch-site": "none"}, 303),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": "http://testserver"}, 403),
        ({"origin": "http://10.0.0.140:5556", "host": "10.0.0.140:5556"}, 303),
        ({"origin": "http://evil.example", "host": "10.0.0.140:5556"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://public", "x-forwarded-host": "public"}, 403),
        ({}, 403),
        ({"authorization": "Bearer x"}, 303),
    ],
)
@pytest.mark.parametrize("action", ACTIONS)
def test_an_action_comes_from_the_page_itself(
    client_of: Callable[..., TestClient], batch: Batch, headers: dict[str, str], status: int, action: str
) -> None:
    client = client_of(access=ALL)
    path = path_of(batch, action)
    form = dict(inputs(client.get(path).text))
    answer = client.post(path.partition("?")[0], data=form, headers=headers, follow_redirects=False)
    assert answer.status_code == status
    if status == 403:
        assert any(name in answer.text for name in ("Sec-Fetch-Site", "Origin")), "it names the reason"


def test_a_proxys_host_counts_if_it_is_ours(client_of: Callable[..., TestClient], batch: Batch) -> None:
    client = client_of(access=ALL, behind_proxy=True)
    form = dict(inputs(client.get(f"/{batch.bid}/retry").text))
    headers = {"origin": "https://ops.example.com", "x-forwarded-host": "ops.example.com"}
    answer = client.post(f"/{batch.bid}/retry", data=form, headers=headers, follow_redirects=False)
    assert answer.status_code == 303


def test_a_form_is_good_for_one_action_of_one_batch_and_person(
    app: Celery, client_of: Callable[..., TestClient], batch: Batch
) -> None:
    client = client_of(access=ALL)
    other = make_batch(app, 2)
    token = dict(inputs(client.get(f"/{batch.bid}/retry").text))["token"]
    somebody = client_of(access=lambda _: Access(grants=frozenset(ALL), user="ann"))
    for asked, path in ((client, f"/{batch.bid}/cancel"), (client, f"/{other.bid}/retry")):
        assert asked.post(path, data={"token": token}, headers=SAME_SITE).status_code == 403
    for given in ({"token": token}, {"token": ""}, {}, {"token": "ä"}):
        answer = somebody.post(f"/{batch.bid}/retry", data=given, headers=SAME_SITE)
        assert answer.status_code == 403
    assert batch.status().dead == 1


def test_a_token_lasts_for_one_hour_at_least_and_two_at_most() -> None:
    now = [7200.0]
    tokens = FormTokens(b"secret", lambda: now[0])
    made = tokens.make("ann", "retry", "x")
    for seconds, fits in ((0, True), (3600, True), (7199, True), (7200, False)):
        now[0] = 7200 + seconds
        assert tokens.fits(made, "ann", "retry", "x") is fits
    assert not FormTokens(b"other", lambda: 7200).fits(made, "ann", "retry", "x")


def test_a_form_has_a_limit(client_of: Callable[..., TestClient], batch: Batch) -> None:
    client = client_of(access=ALL)
    answer = client.post(f"/{batch.bid}/retry", data={"token": "x" * 20_000}, headers=SAME_SITE)
    assert answer.status_code == 413
    many = {f"field{n}": "1" for n in range(21)}
    answer = client.post(f"/{batch.bid}/retry", data=many, headers=SAME_SITE)
    assert answer.status_code == 400
    assert "at most 20 fields" in answer.text


def test_retry_sends_the_dead_ones_again_and_is_logged(
    client_of: Callable[..., TestClient], batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    client = client_of(access=lambda _: Access(grants=frozenset(ALL), user="ann"))
    with caplog.at_level(logging.INFO, "celery_batches_notify.audit"):
        answer = accept(client, f"/{batch.bid}/retry")
    assert (answer.status_code, answer.headers["location"]) == (303, f"../{batch.bid}")
    assert batch.status().dead == 0
    (record,) = [r for r in caplog.records if "retry by ann" in r.getMessage()]
    assert record.batches_bid == batch.bid
    (noted,) = client.get(f"/{batch.bid}/all.json").json()["actions"]
    assert (noted["action"], noted["user"], noted["count"]) == ("retry", "ann", 1)
    assert "retry by ann: 1" in client.get(f"/{batch.bid}").text


def test_the_last_hundred_actions_are_kept(app: Celery, batch: Batch, client: TestClient) -> None:
    store = find_engine(app).store
    for n in range(130):
        store.note_action(batch.bid, f'{{"action": "retry", "user": "ann", "count": {n}}}')
    noted = client.get(f"/{batch.bid}/all.json").json()["actions"]
    assert [note["count"] for note in noted] == list(range(129, 29, -1))


def test_retry_of_a_kind_sends_exactly_those(app: Celery, client_of: Callable[..., TestClient]) -> None:
    batch = make_batch(app, 20)
    failures = {n: fail("KeyError" if n < 12 else "ValueError", f"row {n}") for n in range(20)}
    report(batch, {**dict.fromkeys(range(16), State.DEAD), 16: State.FAILING}, failures)
    client = client_of(access=ALL)
    kinds = client.get(f"/{batch.bid}/all.json").json()["failures"]["kinds"]
    key = kinds[0]["key"]
    assert (kinds[0]["count"], kinds[1]["count"], kinds[1]["dead"]) == (12, 5, 4)
    path = f"/{batch.bid}/retry?group={key}"
    assert "12 members that failed with KeyError in send_invoice will be sent again." in client.get(path).text
    assert accept(client, path).status_code == 303
    members = find_engine(app).store.read_members(batch.bid, 0, 20)
    assert [m.index for m in members if m.state is State.DEAD] == [12, 13, 14, 15]
    assert client.get(f"/{batch.bid}/retry?group=000000000000").status_code == 404


def test_an_action_on_very_many_asks_for_its_name(
    app: Celery, client_of: Callable[..., TestClient], redis: Redis
) -> None:
    batch = make_batch(app, 1)
    write_states(redis, batch, 5_000, {State.WAITING: range(1_001)})
    client = client_of(access=ALL)
    path = f"/{batch.bid}/cancel"
    assert "1,001 members will not run" in client.get(path).text
    for typed in ("", "delete", "canc"):
        assert accept(client, path, typed=typed).status_code == 400
    assert batch.status().cancelled_at is None
    assert accept(client, path, typed=" Cancel ").status_code == 303
    assert batch.status().cancelled_at is not None


def test_seal_redeliver_and_delete_do_what_they_say(
    app: Celery, client_of: Callable[..., TestClient], batch: Batch
) -> None:
    client = client_of(access=ALL)
    assert accept(client, f"/{batch.bid}/seal").status_code == 303
    assert batch.status().sealed_at is not None
    assert client.get(f"/{batch.bid}/seal").status_code == 409
    assert accept(client, f"/{batch.bid}/cancel").status_code == 303
    assert CALLED in client.get(f"/{batch.bid}/redeliver?event=cancel&n=0").text
    assert accept(client, f"/{batch.bid}/redeliver?event=cancel&n=0").status_code == 303
    for query in ("", "?event=cancel&n=7", "?event=cancel&n=x", "?event=nothing"):
        assert client.get(f"/{batch.bid}/redeliver{query}").status_code == 400
    answer = accept(client, f"/{batch.bid}/delete")
    assert (answer.status_code, answer.headers["location"]) == (303, "../")
    assert client.get(f"/{batch.bid}").status_code == 404


def test_who_may_not_read_sees_nothing(client_of: Callable[..., TestClient], batch: Batch) -> None:
    client = client_of(access=lambda _: ())
    paths = (
        "/",
        "/list.json",
        "/list.part",
        *(f"/{batch.bid}{p}" for p in ("", ".json", "/live", "/map.png")),
    )
    for path in paths:
        answer = client.get(path)
        assert answer.status_code == 403
        assert "Import rows" not in answer.text


def test_access_may_be_asynchronous_and_sees_the_request(
    client_of: Callable[..., TestClient], batch: Batch
) -> None:
    async def decide(request: Request) -> set[str]:
        return {"read"} if request.headers.get("x-user") == "ann" else set()

    client = client_of(access=decide)
    assert client.get("/").status_code == 403
    assert client.get("/", headers={"x-user": "ann"}).status_code == 200


def test_a_password_is_asked_for(client_of: Callable[..., TestClient]) -> None:
    client = client_of(access=basic_auth("ann", "pässword"))
    answer = client.get("/")
    assert (answer.status_code, answer.headers["www-authenticate"][:5]) == (401, "Basic")
    for given in ("ann:wrong", "bob:pässword", "", "ann"):
        token = base64.b64encode(given.encode()).decode()
        assert client.get("/", headers={"authorization": f"Basic {token}"}).status_code == 401
    assert client.get("/", headers={"authorization": "Basic ä".encode("latin-1")}).status_code == 401
    assert client.get("/", auth=("ann", "pässword")).status_code == 200


def test_a_grant_that_is_none_is_an_error() -> None:
    for wrong in ({"read", "write"}, "read", {"read": True, "delete": False}):
        with pytest.raises(ValueError, match="access must be a collection of read, retry"):
            status_page(access=wrong)
        with pytest.raises(ValueError, match="access must be a collection of read, retry"):
            Access(grants=wrong)


@pytest.mark.parametrize("given", [{"read": True, "delete": False}, None, iter(["read"])])
def test_an_answer_that_is_no_set_grants_nothing(
    client_of: Callable[..., TestClient], batch: Batch, given: Any
) -> None:
    client = client_of(access=lambda _: given)
    for path in ("", batch.bid, f"{batch.bid}/delete"):
        assert client.get(f"/{path}").status_code == 500


def test_an_access_may_hold_any_collection_also_on_a_stream(app: Celery, batch: Batch) -> None:
    for grants in ({"read"}, ["read"], ("read",)):
        page = status_page(app, access=lambda _, grants=grants: Access(grants=grants))
        with serving(page) as url, urlopen(f"{url}/{batch.bid}/live", timeout=30) as stream:
            assert stream.readline().startswith(b"event: page")


@pytest.mark.parametrize(
    ("status", "headers", "code"),
    [
        (401, {"WWW-Authenticate": "Basic"}, "unauthorized"),
        (303, {"Location": "/login"}, "refused"),
        (403, {}, "forbidden"),
    ],
)
def test_access_may_raise_as_a_dependency_of_fastapi_does(
    client_of: Callable[..., TestClient], status: int, headers: dict[str, str], code: str
) -> None:
    def deny(_: object) -> Access:
        raise HTTPException(status, "Log in first.", headers)

    answer = client_of(access=deny).get("/list.json", follow_redirects=False)
    assert (answer.status_code, answer.json()) == (status, {"error": code, "message": "Log in first."})
    assert headers.items() <= {name: answer.headers.get(name) for name in headers}.items()


def test_a_method_that_is_not_served_names_those_that_are(client: TestClient) -> None:
    assert (answer := client.post("/list.json")).status_code == 405
    assert "GET" in answer.headers["allow"]


def test_an_origin_that_is_none_is_an_error() -> None:
    with pytest.raises(ValueError, match="frame_ancestors must hold origins"):
        status_page(frame_ancestors=["https://x.example; script-src *"])
