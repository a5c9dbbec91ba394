"""`celery -A proj batch redeliver`: what failed is sent again, of one batch or of many."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import timedelta
from io import StringIO

import click
import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, BatchesError
from celery_batches_notify.cli.output import Output
from celery_batches_notify.cli.parameters import Span
from celery_batches_notify.cli.redeliver import send_again
from tests.support.apps import open_app

Command = Callable[..., "subprocess.CompletedProcess[str]"]
PROFILES = {"webhook:billing": {"url": "http://billing.test"}, "webhook": {"url": "http://ops.test"}}


@pytest.fixture
def app(redis: Redis, server_url: str) -> object:
    with open_app(server_url, batches_notifications=PROFILES) as app:
        yield app


def given_up(app: Celery, *channels: str, minutes_ago: int = 0) -> Batch:
    """A batch whose notifications were given up."""
    batch = Batch(app=app)
    for channel in channels:
        batch.on("complete", channel)
    batch.seal()
    store = app._batches_extension.engine.store
    for n in range(len(channels)):
        store.settle_delivery(batch.bid, f"complete:{n}", "given_up", 1)
        name = store.keys.part(batch.bid, "outbox")
        entry = store.client.hget(name, f"complete:{n}").split()
        entry[2] = b"%d" % (int(entry[2]) - minutes_ago * 60_000)
        store.client.hset(name, f"complete:{n}", b" ".join(entry))
    return batch


def states(batch: Batch) -> list[str]:
    return [callback.state for callback in batch.status().callbacks]


def send(app: Celery, bid: str | None = None, **options: object) -> tuple[int, list[str]]:
    said = StringIO()
    given = {"event": None, "number": None, "channel": None, "since": None, "ended": False, "limit": 1000}
    return send_again(app, Output(said), bid=bid, **{**given, **options}), said.getvalue().splitlines()


def test_a_channel_is_sent_again_as_far_back_as_one_says(app: Celery) -> None:
    both = given_up(app, "webhook:billing", "webhook")
    old = given_up(app, "webhook:billing", minutes_ago=180)
    done = Batch(app=app).on("complete", "webhook:billing")
    done.seal()
    app._batches_extension.engine.store.settle_delivery(done.bid, "complete:0", "delivered", 1)
    assert send(app, channel="webhook:billing", since=timedelta(hours=2)) == (
        0,
        ["1 callback of 1 batch sent again"],
    )
    assert states(both) == ["published", "given_up"]
    assert (states(old), states(done)) == (["given_up"], ["delivered"])
    assert send(app, channel="webhook:billing") == (0, ["1 callback of 1 batch sent again"])
    assert states(old) == ["published"]
    assert send(app, event="complete") == (0, ["1 callback of 1 batch sent again"])
    assert send(app, event="death") == (0, ["0 callbacks of 0 batches sent again"])


def test_it_stops_at_its_limit_and_goes_on_when_run_again(app: Celery) -> None:
    for _ in range(5):
        given_up(app, "webhook", "webhook")
    code, said = send(app, channel="webhook", limit=4)
    assert (code, said[0]) == (0, "stopped at the limit of 4: run it again for the rest")
    assert said[1] == "4 callbacks of 2 batches sent again"
    assert send(app, channel="webhook")[1] == ["6 callbacks of 3 batches sent again"]


def test_many_show_how_far_it_has_come(app: Celery) -> None:
    for _ in range(7):
        given_up(app, *["webhook"] * 32)
    said = send(app, since=timedelta(hours=1))[1]
    assert said[0] == "128 callbacks of 4 batches sent again so far"
    assert said[-1] == "224 callbacks of 7 batches sent again"


def test_a_batch_that_cannot_be_read_stops_no_other(app: Celery, redis: Redis) -> None:
    broken, whole = given_up(app, "webhook"), given_up(app, "webhook")
    redis.set(f"batches:{{{broken.bid}}}:callbacks", "no JSON", keepttl=True)
    code, said = send(app, channel="webhook")
    assert code == 1
    assert said[-1] == "1 callback of 1 batch sent again"
    assert broken.bid in "".join(said)
    assert states(whole) == ["published"]


def test_one_batch_one_callback_and_all_of_it(app: Celery) -> None:
    batch = given_up(app, "webhook", "webhook:billing")
    bid = batch.bid
    assert send(app, bid, channel="webhook")[1] == [f"{bid}: 1 callback sent again"]
    assert send(app, bid, event="complete", number=1)[1] == [f"{bid}: 1 callback sent again"]
    for n in range(2):
        app._batches_extension.engine.store.settle_delivery(bid, f"complete:{n}", "delivered", 1)
    assert send(app, bid)[1] == [f"{bid}: 0 callbacks sent again"]
    assert send(app, bid, ended=True)[1] == [f"{bid}: 2 callbacks sent again"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "say what to send again: a BID, --channel, --event or --since"),
        ({"channel": "webhook:biling"}, "webhook:billing"),
        ({"channel": "slak"}, "did you mean"),
        ({"event": "completed"}, "there is no event 'completed'"),
        ({"number": 1, "event": "complete"}, "give it with a BID and --event"),
        ({"ended": True, "event": "complete"}, "name the batch with its BID"),
        ({"bid": "no such batch"}, "is not a batch id"),
        ({"bid": "0123456789abcdef"}, "there is no batch"),
    ],
)
def test_what_cannot_be_meant_is_named(app: Celery, options: dict, words: str) -> None:
    before = given_up(app, "webhook")
    with pytest.raises(BatchesError, match=words):
        send(app, options.pop("bid", None), **options)
    assert states(before) == ["given_up"]


@pytest.mark.parametrize(
    ("text", "span"),
    [("90s", 90), ("90", 90), ("30m", 1800), ("2h", 7200), ("1.5h", 5400), ("1d", 86_400)],
)
def test_spans_of_time_are_read(text: str, span: float) -> None:
    assert Span().convert(text, None, None) == timedelta(seconds=span)


@pytest.mark.parametrize("text", ["", "h", "2hh", "1e9", "999999999d", "٣h", "2 weeks", "0", "-2h"])
def test_what_is_no_span_of_time_is_refused(text: str) -> None:
    with pytest.raises(click.UsageError, match=r"must be (a positive duration|at most|a span of time)"):
        Span().convert(text, None, None)


def test_the_command_says_how_many(app: Celery, batch_command: Command) -> None:
    batch = Batch(app=app).on("success", app.signature("proj.callback"))
    batch.seal()
    app._batches_extension.engine.store.settle_delivery(batch.bid, "success:0", "given_up", 1)
    done = batch_command("redeliver", "--channel", "proj.callback", "--since", "2h")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "1 callback of 1 batch sent again\n"
    done = batch_command("redeliver")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: say what to send again")


def test_the_doctor_names_the_address_that_callbacks_wait_for(app: Celery, batch_command: Command) -> None:
    batches = [Batch(app=app).on("complete", "webhook") for _ in range(2)]
    for batch in batches:
        batch.seal()
        address = "0123 http://ops.test"
        engine = app._batches_extension.engine
        engine.store.settle_delivery(
            batch.bid, "complete:0", "postponed", 1, delay_seconds=600, waits_for=address, number=1
        )
    done = batch_command("doctor")
    assert "http://ops.test: failed or is busy: 2 callbacks wait for it, until 20" in done.stdout
    assert "all live batches move" in done.stdout
    done = batch_command("doctor", batches[0].bid)
    assert done.returncode == 0
    assert "the callback complete:0 (webhook) waits for http://ops.test, until 20" in done.stdout
