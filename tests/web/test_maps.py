"""What is read of a batch's members is read once for all who look, until the batch moves."""

from __future__ import annotations

from typing import Any

import pytest
from celery import Celery
from redis import Redis
from starlette.requests import Request

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.member_map import draw_map
from celery_batches_notify.membership import State
from celery_batches_notify.web.clusters import ClusterReader, map_tag
from celery_batches_notify.web.maps import COLOURS, Maps
from celery_batches_notify.web.view import read_view
from tests.web.scene import make_batch, report

DEAD, FAILING, SUCCEEDED = State.DEAD, State.FAILING, State.SUCCEEDED
HOUR_MS = 3_600_000


@pytest.fixture
def states_read(app: Celery, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The batches whose members' states were read."""
    read: list[str] = []
    store = find_engine(app).store
    real = store.read_states

    def read_states(bid: str, total: int) -> bytes:
        read.append(bid)
        return real(bid, total)

    monkeypatch.setattr(store, "read_states", read_states)
    return read


def ask(app: Celery, maps: Maps, batch: Batch) -> Any:
    request = Request({"type": "http", "method": "GET", "headers": []})
    return maps.answer(find_engine(app), request, batch.bid, "light")


def states_of(redis: Redis, batch: Batch) -> bytes:
    return redis.get(f"batches:{{{batch.bid}}}:states") or b""  # type: ignore[return-value]


def move(redis: Redis, batch: Batch, *, hours: int) -> None:
    """Let a batch have moved so many hours ago; those to come let it move at any time of the test."""
    now = redis.time()[0] * 1000
    redis.hset(f"batches:{{{batch.bid}}}", "reported_at", now - hours * HOUR_MS)


def test_members_states_are_read_again_only_if_the_batch_has_moved(
    app: Celery, states_read: list[str]
) -> None:
    batch, reader, engine = make_batch(app, 20), ClusterReader(), find_engine(app)
    assert read_view(engine, batch.bid, reader).clusters == ()
    assert states_read == [], "nothing has failed"
    report(batch, {1: DEAD, 2: FAILING})
    for _ in range(3):
        view = read_view(engine, batch.bid, reader)
        assert (view.clusters, view.groups[0].dead) == (("dead: #1", "failing: #2"), (1,))
    assert len(states_read) == 1
    report(batch, {2: DEAD})
    view = read_view(engine, batch.bid, reader)
    assert (view.clusters, sorted(view.groups[0].dead)) == (("dead: #1, #2",), [1, 2])
    assert len(states_read) == 2


def test_only_the_batches_looked_at_last_are_kept(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_batches_notify.web.clusters.KEPT", 2)
    reader, engine = ClusterReader(), find_engine(app)
    batches = [make_batch(app, 2) for _ in range(3)]
    for batch in batches:
        report(batch, {0: DEAD})
        read_view(engine, batch.bid, reader)
    assert list(reader._kept) == [batch.bid for batch in batches[1:]]


def test_all_who_watch_a_batch_share_its_map(app: Celery, redis: Redis, states_read: list[str]) -> None:
    batch, maps = make_batch(app, 20), Maps(lambda: clock[0])
    clock = [0.0]
    report(batch, {1: DEAD})
    move(redis, batch, hours=-1)
    first = ask(app, maps, batch)
    assert first.body == draw_map(states_of(redis, batch), 20, COLOURS["light"])
    report(batch, {2: SUCCEEDED})
    move(redis, batch, hours=-2)
    clock[0] = 0.9
    assert ask(app, maps, batch).body == first.body, "it moves, so a map may be a second old"
    assert len(states_read) == 1
    clock[0] = 1.0
    assert ask(app, maps, batch).body == draw_map(states_of(redis, batch), 20, COLOURS["light"])
    assert len(states_read) == 2


def test_a_map_is_not_drawn_again_for_a_batch_that_stands_still(
    app: Celery, redis: Redis, states_read: list[str]
) -> None:
    batch, maps = make_batch(app, 2), Maps()
    report(batch, {1: DEAD})
    move(redis, batch, hours=1)
    assert ask(app, maps, batch).body == ask(app, maps, batch).body
    assert len(states_read) == 1


@pytest.mark.parametrize("ending", ["stands still", "finishes"])
def test_the_last_map_is_exact(app: Celery, redis: Redis, ending: str) -> None:
    batch, maps = make_batch(app, 2), Maps(lambda: 0.0)
    report(batch, {1: DEAD})
    move(redis, batch, hours=-1)
    ask(app, maps, batch)
    report(batch, {0: FAILING if ending == "stands still" else SUCCEEDED})
    move(redis, batch, hours=1 if ending == "stands still" else -1)
    assert ask(app, maps, batch).body == draw_map(states_of(redis, batch), 2, COLOURS["light"])


def test_a_map_of_another_batch_or_theme_is_another(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("celery_batches_notify.web.maps.KEPT", 2)
    maps, engine = Maps(), find_engine(app)
    request = Request({"type": "http", "method": "GET", "headers": []})
    one, other = make_batch(app, 4), make_batch(app, 4)
    report(one, {1: DEAD})
    bodies = [
        maps.answer(engine, request, batch.bid, theme).body
        for batch, theme in ((one, "light"), (one, "dark"), (other, "light"))
    ]
    assert len(set(bodies)) == 3
    assert list(maps._kept) == [(one.bid, "dark"), (other.bid, "light")]


def test_the_maps_address_changes_as_often_as_it_is_to_be_loaded(app: Celery, redis: Redis) -> None:
    batch = make_batch(app, 4)
    tags = []
    for hours, state in ((-1, {0: SUCCEEDED}), (1, {1: SUCCEEDED}), (2, {2: SUCCEEDED})):
        report(batch, state)
        move(redis, batch, hours=hours)
        tags.append(read_view(find_engine(app), batch.bid).map_tag)
    assert "-" not in tags[0], "it moves: a time"
    assert all(tag.startswith("4-") for tag in tags[1:]), "it stands still: its counts and the time"
    assert len(set(tags)) == 3
    status, now = batch.status(), read_view(find_engine(app), batch.bid).now
    assert map_tag(status, now) == tags[2]
