"""Streams: a batch is drawn once for all who watch it, and everything ends with the last of them."""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import AsyncIterator, Callable

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.engine import find_engine
from celery_batches_notify.membership import State
from celery_batches_notify.web import live, progress_events
from celery_batches_notify.web.answers import Problem
from celery_batches_notify.web.live import DRAWINGS_PER_SECOND, PAUSE_SECONDS, Hub, Turns, encode_frame
from tests.web.scene import make_batch, report

READ = frozenset({"read"})


async def until(true: Callable[[], object], what: str) -> None:
    async with asyncio.timeout(30):
        while not true():
            await asyncio.sleep(0.01)
    assert true(), what


def count_subscriptions(redis: Redis, batch: Batch) -> int:
    return int(redis.pubsub_numsub(f"batch-{batch.bid}")[0][1])


def test_a_batch_is_drawn_once_for_all_who_watch_it(app: Celery, redis: Redis) -> None:
    batch = make_batch(app, 4)
    engine, drawn = find_engine(app), []

    def draw(bid: str, _: frozenset[str]) -> str:
        drawn.append(str(engine.store.read_status(bid).succeeded))
        return drawn[-1]

    async def watch(hub: Hub, seen: list[str]) -> None:
        async for html in hub.watch(engine, batch.bid, READ):
            seen.append(html)

    async def play() -> tuple[list[list[str]], Hub]:
        hub = Hub(500, draw)
        seen: list[list[str]] = [[] for _ in range(50)]
        tasks = [asyncio.create_task(watch(hub, each)) for each in seen]
        await until(lambda: all(seen), "the first drawing")
        assert hub.watchers == 50
        await until(lambda: count_subscriptions(redis, batch) > 0, "the subscription")
        await asyncio.to_thread(report, batch, dict.fromkeys(range(4), State.SUCCEEDED))
        await until(lambda: all(each[-1] == "4" for each in seen), "the last drawing")
        assert count_subscriptions(redis, batch) <= 1
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await until(lambda: not hub._topics, "the end of the topic")
        return seen, hub

    seen, hub = asyncio.run(play())
    assert hub.watchers == 0
    assert all(each[0] == "0" and each[-1] == "4" for each in seen)
    assert len(drawn) < 20, "not one drawing per watcher"


def test_a_drawing_is_encoded_once_for_all_who_watch() -> None:
    frames = [encode_frame("".join(("<p>\n", "</p>"))) for _ in range(2)]
    assert frames[0] is frames[1]
    assert frames[0].splitlines() == [b"event: page", b"data: <p>", b"data: </p>", b""]


def test_people_with_other_rights_see_other_drawings(app: Celery) -> None:
    batch, engine = make_batch(app, 1), find_engine(app)

    async def first(hub: Hub, grants: frozenset[str]) -> str:
        watching: AsyncIterator[str] = hub.watch(engine, batch.bid, grants)
        html = await anext(watching)
        await watching.aclose()  # type: ignore[attr-defined]
        return html

    async def play() -> list[str]:
        hub = Hub(500, lambda _, grants: " ".join(sorted(grants)))
        return await asyncio.gather(first(hub, READ), first(hub, READ | {"retry"}))

    assert asyncio.run(play()) == ["read", "read retry"]


def test_the_one_after_the_last_is_turned_away(app: Celery) -> None:
    batch, engine = make_batch(app, 1), find_engine(app)

    async def play() -> None:
        hub = Hub(1, lambda *_: "x")
        hub.check_room()
        watching = hub.watch(engine, batch.bid, READ)
        await anext(watching)
        with pytest.raises(Problem) as refused:
            hub.check_room()
        assert refused.value.status == 503
        await watching.aclose()  # type: ignore[attr-defined]
        hub.check_room()

    asyncio.run(play())


def test_a_stream_ends_in_time_though_nothing_moves(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "STREAM_SECONDS", 0.3)
    batch, engine = make_batch(app, 1), find_engine(app)

    async def play() -> list[str]:
        hub = Hub(500, lambda *_: "x")
        seen = [html async for html in hub.watch(engine, batch.bid, READ)]
        assert hub.watchers == 0
        return seen

    assert asyncio.run(asyncio.wait_for(play(), 30))[-1] == ""


def test_a_drawing_that_fails_is_tried_again(app: Celery, caplog: pytest.LogCaptureFixture) -> None:
    batch, engine = make_batch(app, 4), find_engine(app)
    tries: list[int] = []

    def draw(*_: object) -> str:
        tries.append(1)
        if len(tries) == 1:
            raise RuntimeError("no")
        return "there"

    async def play() -> str:
        hub = Hub(1, draw)
        watching = hub.watch(engine, batch.bid, READ)
        first = asyncio.ensure_future(anext(watching))
        await until(lambda: tries, "the first try")
        await asyncio.to_thread(report, batch, {0: State.SUCCEEDED})
        html = await first
        await watching.aclose()  # type: ignore[attr-defined]
        return html

    assert asyncio.run(play()) == "there"
    assert "cannot be drawn" in caplog.text


def test_one_batch_never_waits_for_others_that_stand_still() -> None:
    turns = Turns()
    assert {turns.take(now) for now in range(100)} == {PAUSE_SECONDS}


@pytest.mark.parametrize("count", [10, 50, 500])
def test_many_batches_are_drawn_in_turn_and_not_too_often(count: int) -> None:
    turns, drawn, last, latest = Turns(), 0, 30.0, 0.0
    due = [(0.0, n) for n in range(count)]
    while due[0][0] < last:
        now, n = heapq.heappop(due)
        latest, drawn = max(latest, now), drawn + 1
        heapq.heappush(due, (now + turns.take(now), n))
    assert drawn <= DRAWINGS_PER_SECOND * last + count
    assert drawn >= min(DRAWINGS_PER_SECOND, count / PAUSE_SECONDS) * last * 0.9
    assert max(at for at, _ in due) - latest <= max(PAUSE_SECONDS, count / DRAWINGS_PER_SECOND) + 0.1


def test_a_batch_that_moves_waits_for_its_turn(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "DRAWINGS_PER_SECOND", 1 / 3600)
    batch, engine, drawn = make_batch(app, 4), find_engine(app), []

    def draw(bid: str, _: frozenset[str]) -> str:
        drawn.append(bid)
        return f"{len(drawn)}"

    async def play() -> None:
        watching = Hub(1, draw).watch(engine, batch.bid, READ)
        await anext(watching)
        await asyncio.to_thread(report, batch, {0: State.SUCCEEDED})
        await asyncio.sleep(4 * PAUSE_SECONDS)
        await watching.aclose()  # type: ignore[attr-defined]

    asyncio.run(play())
    assert drawn == [batch.bid]


def test_progress_comes_as_events_for_views_of_ones_own(app: Celery) -> None:
    batch = make_batch(app, 4)
    report(batch, dict.fromkeys(range(3), State.SUCCEEDED))

    async def read() -> list[str]:
        found = []
        async for event in progress_events(batch.bid, app=app):
            found.append(event)
            if len(found) == 1:
                await asyncio.to_thread(report, batch, {3: State.SUCCEEDED})
        return found

    events = asyncio.run(read())
    assert all(event.startswith("event: progress\ndata: {") and event.endswith("}\n\n") for event in events)
    first, last = (json.loads(event.split("data: ")[1]) for event in (events[0], events[-1]))
    assert (first["succeeded"], first["progress"], last["state"]) == (3, 0.75, "success")
    with pytest.raises(ValueError, match="not a batch id"):
        progress_events("x", app=app)
