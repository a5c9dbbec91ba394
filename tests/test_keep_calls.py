"""Kept calls are sent again as they were first sent, and only as often as necessary."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, ConfigurationError, InvalidCall, StoreUnavailable
from celery_batches_notify.doctor import reconcile
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages import kept_messages
from celery_batches_notify.model import Failure
from celery_batches_notify.testing.server import embedded_server
from tests.support.apps import open_app

DEAD = Outcome(
    state=State.DEAD,
    reason="failed",
    failure=Failure(task_id="x", task="x", error_class="E", error_message="", backtrace=None, retries=0),
)


@pytest.fixture
def app(redis: Redis, server_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Celery]:
    """Return an app whose queue the test reads and empties. Two looks need no pause: nothing moves."""
    monkeypatch.setattr(reconcile, "BETWEEN_LOOKS_SECONDS", 0)
    monkeypatch.setattr(reconcile, "QUIET_SECONDS", 0)
    with open_app(server_url, batches_keep_calls=True, batches_retry_kept=0) as app:
        yield app


def kept(redis: Redis, batch: Batch) -> set[int]:
    """Return the members whose calls the store keeps."""
    return {int(index) for index in redis.hkeys(f"batches:{{{batch.bid}}}:calls")}


def messages(redis: Redis, queue: str = "celery") -> list[dict]:
    """Return the messages that wait at the broker, the oldest first."""
    return [json.loads(message) for message in reversed(redis.lrange(queue, 0, -1))]


def report(app: Celery, message: dict, outcome: Outcome) -> str:
    """Report the outcome of a message, as a worker does."""
    header = message["headers"]["batches"]
    member = Membership(
        bid=header["bid"],
        index=header["index"],
        task_id=message["headers"]["id"],
        round=header.get("round", 0),
    )
    return app._batches_extension.engine.store.record_outcome(member, outcome).word


def test_a_call_is_kept_until_its_member_has_succeeded(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(*(app.signature("proj.ok", (n,)) for n in range(3)))
    assert kept(redis, batch) == {0, 1, 2}
    first, second, _ = messages(redis)
    report(app, first, Outcome(state=State.SUCCEEDED))
    assert kept(redis, batch) == {1, 2}
    report(app, second, DEAD)
    assert kept(redis, batch) == {1, 2}
    report(app, second, Outcome(state=State.SUCCEEDED))
    assert kept(redis, batch) == {2}
    batch.delete()
    assert not redis.exists(f"batches:{{{batch.bid}}}:calls")


def test_nothing_is_kept_unless_it_is_asked_for(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app, keep_calls=False)
    batch.add(app.signature("proj.ok"))
    assert kept(redis, batch) == set()
    with pytest.raises(ConfigurationError, match="keep_calls must be True or False, got 'yes'"):
        Batch(app=app, keep_calls="yes")


def fill_block(app: Celery, batch: Batch) -> None:
    with batch:
        app.signature("proj.ok", (1,)).delay()
        app.signature("proj.ok", (2,)).delay()


def fill_by_others(app: Celery, batch: Batch) -> None:
    batch.add(app.signature("proj.ok", (1,)))
    Batch.get(batch.bid, app=app).add(app.signature("proj.ok", (2,)))
    batch.seal()


WAYS: dict[str, tuple[dict, Callable[[Celery, Batch], object]]] = {
    "block": ({}, fill_block),
    "add": ({}, lambda app, batch: batch.add(app.signature("proj.ok", (1,)), app.signature("proj.ok", (2,)))),
    "map": ({}, lambda app, batch: batch.map(app.tasks["proj.ok"], [1, 2])),
    "autoflush": ({"autoflush": 1}, fill_block),
    "others": ({"keep_open": True}, fill_by_others),
}


@pytest.mark.parametrize("way", WAYS)
def test_whatever_way_a_batch_is_filled_an_emptied_broker_gets_all_of_it_again(
    app: Celery, redis: Redis, way: str
) -> None:
    options, fill = WAYS[way]
    batch = Batch(app=app, **options)
    fill(app, batch)
    sent = messages(redis)
    redis.delete("celery")
    repairs = batch.reconcile(vanished="resend")
    assert (repairs.resent, repairs.vanished, repairs.notes[1:]) == (2, 0, ())
    status = batch.status()
    assert (status.failures, status.complete_at) == (0, None), "nobody has run"
    again = messages(redis)
    assert [m["body"] for m in again] == [m["body"] for m in sent]
    for before, after in zip(sent, again, strict=True):
        assert after["headers"] == {
            **before["headers"],
            "batches": {**before["headers"]["batches"], "round": 1},
        }
    assert batch.reconcile(vanished="resend").resent == 0, "they are there"
    assert {report(app, message, Outcome(state=State.SUCCEEDED)) for message in again} == {"counted"}
    assert batch.status().state == "success"
    assert kept(redis, batch) == set()


def test_a_canvas_is_sent_again_with_all_that_hangs_on_it(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    ok = app.tasks["proj.ok"]
    with batch:
        (ok.si(1) | ok.si(2)).apply_async(link=ok.si(3), priority=3, queue="elsewhere")
    (sent,) = messages(redis, "elsewhere\x06\x163") or messages(redis, "elsewhere")
    redis.delete("elsewhere\x06\x163", "elsewhere")
    assert batch.reconcile(vanished="resend").resent == 1
    (again,) = messages(redis, "elsewhere\x06\x163") or messages(redis, "elsewhere")
    assert again["body"] == sent["body"]
    assert again["properties"]["priority"] == sent["properties"]["priority"]


def test_retry_sends_a_dead_member_whose_call_no_worker_kept(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok", (7,)))
    (sent,) = messages(redis)
    redis.delete("celery")
    report(app, sent, DEAD)
    assert batch.status().unsendable
    assert batch.retry() == 1
    assert batch.retry() == 0, "it is under way"
    assert batch.status().unsendable == {}
    (again,) = messages(redis)
    assert again["headers"]["id"] == sent["headers"]["id"]
    assert again["headers"]["batches"]["round"] == 1
    report(app, again, Outcome(state=State.SUCCEEDED))
    assert batch.status().state == "success"


def test_a_member_that_succeeds_while_it_is_taken_again_is_not_sent(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    (sent,) = messages(redis)
    redis.delete("celery")
    resender = app._batches_extension.engine.resender
    send = resender.send

    def succeed_first(bid: str, members: object) -> None:
        report(app, sent, Outcome(state=State.SUCCEEDED))
        send(bid, members)

    monkeypatch.setattr(resender, "send", succeed_first)
    batch.reconcile(vanished="resend")
    assert messages(redis) == []
    assert batch.status().state == "success"
    assert "not sent again" not in caplog.text


def test_a_member_whose_retry_vanished_stays_failing_and_is_sent_again(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    (sent,) = messages(redis)
    redis.delete("celery")
    report(app, sent, Outcome(state=State.FAILING, attempt=1))
    assert batch.reconcile(vanished="resend").resent == 1
    assert batch.status().complete_at
    (again,) = messages(redis)
    assert report(app, sent, Outcome(state=State.FAILING, attempt=2)) == "repeated", "of the round before"
    report(app, again, Outcome(state=State.SUCCEEDED))
    assert batch.status().state == "success"


def test_a_member_that_vanishes_over_and_over_is_dead_at_last(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    done = []
    for _ in range(5):
        redis.delete("celery")
        repairs = batch.reconcile(vanished="resend")
        done.append((repairs.resent, repairs.vanished))
        redis.hdel(f"batches:{{{batch.bid}}}", "resend_at")  # as the sweeper does after a while
    assert done == [(1, 0)] * 3 + [(0, 1), (0, 0)]
    assert batch.status().state == "dead"


def test_a_cancelled_batchs_members_are_not_sent_again(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    redis.delete("celery")
    batch.cancel()
    repairs = batch.reconcile(vanished="resend")
    assert (repairs.resent, repairs.vanished) == (0, 1)
    assert messages(redis) == []
    assert batch.status().finish_at


def test_what_is_not_kept_is_left_and_said(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app, keep_calls=False)
    batch.add(app.signature("proj.ok"))
    redis.delete("celery")
    repairs = batch.reconcile(vanished="resend")
    assert repairs.notes[-1] == "1 vanished member left waiting: their calls are not kept"
    assert batch.status().dead == 0


def test_a_kept_call_that_cannot_be_read_is_logged_and_left(
    app: Celery, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    batch = Batch(app=app)
    batch.add(app.signature("proj.ok"))
    redis.delete("celery")
    redis.hset(f"batches:{{{batch.bid}}}:calls", 0, b"no such thing")
    batch.reconcile(vanished="resend")
    assert "member 0 is not sent again" in caplog.text
    assert messages(redis) == []


# -- what cannot be kept ------------------------------------------------------------------------------


def test_a_call_that_is_too_large_to_be_kept_is_refused_at_the_call(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_messages, "KEPT_AT_MOST", 1000)
    batch = Batch(app=app)
    with batch:
        app.signature("proj.ok", ("x" * 10_000,)).delay()  # packed it is small
        with pytest.raises(InvalidCall, match=r"proj\.ok: keep_calls keeps calls of up to 1,000 bytes"):
            app.signature("proj.ok", (",".join(map(str, range(1000))),)).delay()
    assert batch.status().total == 1


def test_a_call_that_is_added_to_a_stored_batch_is_refused_with_its_block(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = Batch(app=app, keep_open=True)
    batch.add(app.signature("proj.ok"))
    monkeypatch.setattr(kept_messages, "KEPT_AT_MOST", 10)
    other = Batch.get(batch.bid, app=app)
    with pytest.raises(InvalidCall):
        other.add(app.signature("proj.ok"))
    monkeypatch.undo()
    other.add(app.signature("proj.ok"))
    assert batch.status().total == 2


def test_arguments_that_json_does_not_give_back_are_refused(app: Celery, redis: Redis) -> None:
    with Batch(app=app), pytest.raises(InvalidCall, match="keeps each call as JSON"):
        app.signature("proj.ok", ({1: "a number as a key"},)).apply_async(serializer="pickle")
    assert pickle.loads(pickle.dumps({1: 2})) == {1: 2}


def test_a_store_that_is_nearly_full_refuses_before_anything_is_enrolled() -> None:
    with (
        embedded_server("--maxmemory-policy", "noeviction") as url,
        open_app(url, batches_keep_calls=True) as app,
        Redis.from_url(url) as client,
    ):
        client.config_set("maxmemory", round(client.info("memory")["used_memory"] / 0.95))
        batch = Batch(app=app)
        with pytest.raises(StoreUnavailable, match=r"nearly full .* or leave keep_calls out"):
            batch.add(app.signature("proj.ok"))
        assert client.keys("batches*") == []
        client.config_set("maxmemory", 0)
        batch.resume()
        assert batch.status().total == 1
