"""The store fails at any step of a producer; `resume()` loses nothing and enrols nothing twice."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.errors import BatchesError, EnqueueError, StoreUnavailable
from celery_batches_notify.producer import chunk
from celery_batches_notify.store.store import Store
from tests.support.apps import open_app
from tests.support.cut_proxy import CutProxy, cut_proxy

CHUNK = 5
CALLS = 12
ADDERS, ROUNDS = 4, 5


@pytest.fixture(autouse=True)
def _small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunk, "CHUNK", CHUNK)


@pytest.fixture
def app(redis: object, server_url: str) -> Iterator[Celery]:
    with open_app(server_url, task_default_queue=f"q{uuid4().hex}") as app:
        yield app


def members_of(batch: Batch) -> Counter[str]:
    store, total = batch._engine.store, batch.status().total
    return Counter(member.id for chunk in store.walk_members(batch.bid, total) for member in chunk)


def places_sent(app: Celery) -> dict[tuple[str, str], set[int]]:
    """Return the indexes that the messages at the broker name, by batch and task."""
    sent: dict[tuple[str, str], set[int]] = {}
    with app.connection_for_read() as connection:
        channel, queue = connection.default_channel, app.conf.task_default_queue
        for message in iter(lambda: channel.basic_get(queue, no_ack=True), None):
            mark = message.headers["batches"]
            sent.setdefault((mark["bid"], message.headers["id"]), set()).add(mark["index"])
    return sent


def check(app: Celery, batch: Batch, ids: list[str]) -> None:
    """Check that every call is a member once, with a message that names its index, and confirmed."""
    assert members_of(batch) == Counter(ids)
    store, total = batch._engine.store, batch.status().total
    places = {m.id: m.index for chunk in store.walk_members(batch.bid, total) for m in chunk}
    assert places_sent(app) == {(batch.bid, i): {place} for i, place in places.items()}
    assert list(store.walk_unconfirmed(batch.bid)) == []


class Fault:
    """Fails a method of the store once: before it does anything, or afterwards, like a lost reply."""

    def __init__(self, patch: pytest.MonkeyPatch, name: str, nth: int, *, after: bool) -> None:
        method, self.hits = getattr(Store, name), 0

        def fails(*args: object, **kwargs: object) -> object:
            self.hits += 1
            if self.hits != nth:
                return method(*args, **kwargs)
            if after:
                method(*args, **kwargs)
            raise StoreUnavailable("the store is away")

        patch.setattr(Store, name, fails)


@pytest.mark.parametrize("after", [False, True], ids=["request lost", "reply lost"])
@pytest.mark.parametrize(
    ("step", "nth"),
    [
        ("open_batch", 1),
        ("enrol_members", 1),
        ("enrol_members", 3),
        ("confirm_members", 1),
        ("confirm_members", 2),
        ("seal_batch", 1),
    ],
)
@pytest.mark.parametrize("kind", ["block", "nested"])
def test_whatever_step_the_store_fails_resume_finishes_it(
    app: Celery, monkeypatch: pytest.MonkeyPatch, kind: str, step: str, nth: int, after: bool
) -> None:
    parent = Batch(app=app, keep_open=True) if kind == "nested" else None
    if parent:
        parent.add(app.tasks["proj.ok"].s())
        places_sent(app)
    batch = Batch(app=app, parent=parent)
    results = []
    fault = Fault(monkeypatch, step, nth, after=after)
    with pytest.raises(StoreUnavailable), batch:
        results += [app.tasks["proj.ok"].delay() for _ in range(CALLS)]
    batch.resume()
    assert fault.hits >= nth
    check(app, batch, [result.id for result in results])
    assert batch.status().sealed_at
    if parent:
        assert members_of(parent)[batch.bid] == 1
        assert parent.status().total == 2
        assert list(parent._engine.store.walk_unconfirmed(parent.bid)) == []


def test_a_broker_and_a_store_that_fail_in_turn_lose_nothing(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(app=app)
    send, sent = app.amqp.send_task_message.send, []

    def refuse(*args: object, **options: object) -> object:
        sent.append(1)
        if len(sent) in (7, 9):
            raise OSError("the broker is away")
        return send(*args, **options)

    monkeypatch.setattr(app.amqp.send_task_message, "send", refuse)
    with pytest.raises(EnqueueError) as refused, batch:
        results = [app.tasks["proj.ok"].delay() for _ in range(CALLS)]
    assert [len(x) for x in (refused.value.sent, refused.value.unknown, refused.value.unsent)] == [6, 1, 5]
    with pytest.raises(EnqueueError) as refused:
        batch.resume()
    assert [len(x) for x in (refused.value.sent, refused.value.unknown, refused.value.unsent)] == [7, 1, 4]
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        Fault(patch, "confirm_members", 1, after=True)
        batch.resume()
    batch.resume()
    check(app, batch, [result.id for result in results])


def test_members_that_landed_behind_others_are_found_again_where_they_landed(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store moves the chunk, the reply is lost, and other members come before the next try."""
    ok = app.tasks["proj.ok"]
    owner = Batch(app=app, keep_open=True)
    ids = [result.id for result in owner.add(*(ok.s() for _ in range(3)))]
    other = Batch.get(owner.bid, app=app)
    with monkeypatch.context() as patch, pytest.raises(StoreUnavailable):
        Fault(patch, "enrol_members", 1, after=True)
        with other:
            ids += [ok.delay().id for _ in range(2)]
    ids += [result.id for result in owner.add(ok.s())]
    other.resume()
    with other:
        ids += [ok.delay().id]
    check(app, owner, ids)


def test_the_next_submit_finds_them_too(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    """Yield the calls of an autoflush batch whose user goes on after an error."""
    ok, batch = app.tasks["proj.ok"], Batch(app=app, autoflush=2)
    ids: list[str] = []
    Fault(monkeypatch, "enrol_members", 2, after=True)
    with batch:
        for _ in range(7):
            call = ok.s()
            ids.append(call.freeze().id)
            try:
                call.apply_async()
            except StoreUnavailable:
                continue
    check(app, batch, ids)


def insist(step: Callable[[], object], after: Callable[[], object]) -> None:
    """Call `step`, and after an error `after`, until one succeeds."""
    try:
        step()
    except BatchesError:
        for _ in range(200):
            try:
                after()
            except BatchesError:
                continue
            return
        raise


def add_in_rounds(batch: Batch, ids: list[str]) -> None:
    ok = batch.app.tasks["proj.ok"]
    for _ in range(ROUNDS):
        calls = [ok.s() for _ in range(7)]
        ids += [call.freeze().id for call in calls]
        insist(lambda calls=calls: batch.add(*calls), batch.resume)


@pytest.mark.parametrize("mode", ["cut_reply", "cut_request", "cut_mid_reply"])
def test_adders_whose_replies_are_cut_are_each_enrolled_once(app: Celery, server_url: str, mode: str) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.tasks["proj.ok"].s())
    ids = list(members_of(batch))
    with cut_proxy(server_url, seed=5) as (proxy, url):
        batches = [adder_behind(proxy, url, app, batch.bid) for _ in range(ADDERS)]
        adders = [next(each) for each in batches]
        added: list[list[str]] = [[] for _ in adders]
        threads = [
            threading.Thread(target=add_in_rounds, args=pair) for pair in zip(adders, added, strict=True)
        ]
        proxy.misbehave(mode, share=0.3)
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        proxy.behave()
        assert proxy.struck > ADDERS
        for each in batches:
            each.close()
    batch.seal()
    check(app, batch, [*ids, *(i for each in added for i in each)])


def adder_behind(proxy: CutProxy, url: str, app: Celery, bid: str) -> Iterator[Batch]:
    """Return another process's batch object, with the store behind the proxy and the broker before it."""
    with open_app(
        url, broker_url=app.conf.broker_url, task_default_queue=app.conf.task_default_queue
    ) as mine:
        yield Batch.get(bid, app=mine)
