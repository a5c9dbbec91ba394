"""Malformed bids, forged members and huge failures do no harm."""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random
from urllib.parse import urlsplit
from uuid import uuid4

import pytest
from celery import Celery
from celery.app.task import Context
from click.testing import CliRunner
from redis import Redis

from celery_batches_notify import Batch, InvalidBid, NoSuchBatch
from celery_batches_notify.checks import check_bid
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.headers import read_header
from celery_batches_notify.store.follow import Follow
from celery_batches_notify.worker import outcomes
from tests.support.eavesdropping import Eavesdropper

SUCCEEDED = Outcome(state=State.SUCCEEDED)
KNOWN = [
    "",
    " ",
    "short",
    "a" * 65,
    "a" * 1_000_000,
    "../../etc/passwd",
    "..%2f..%2fetc",
    "*",
    "batch-*",
    "{x}",
    "a:b",
    "bid4567890:members",
    "bid4567890}:x",
    "bid4567890\n",
    "bid4567890\r\nFLUSHALL\r\n",
    "bid4567890 0",
    "bid4567890\x00",
    "bid4567890\x1b]0;x\x07",
    "bid456789é",
    "bid456789\u202e",
    "١٢٣٤٥٦٧٨٩٠",
    "$(reboot)",
    "`id`",
    "<script>",
    "' OR 1=1",
    "[a-z]??????????",
    "%0d%0aSET x 1",
    "\ud800bid4567890",
]


def malicious_bids() -> list[str]:
    """Return 200 bids: known bad ones, and good ones with one wrong character."""
    draw = Random(38)
    wrong = [chr(c) for c in range(0x250) if not re.fullmatch(r"[A-Za-z0-9_-]", chr(c))]
    made = dict.fromkeys(KNOWN)
    while len(made) < 200:
        at = draw.randrange(22)
        made["a" * at + draw.choice(wrong) + "b" * (21 - at)] = None
    return list(made)


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(told, name="told", shared=False)
    return app


# -- bids (T38) -------------------------------------------------------------------------------------


def test_a_malicious_bid_touches_no_key(app: Celery, server_url: str) -> None:
    """Bad bids reach the API, a message's header and a channel, and the store's commands are watched."""
    bids = malicious_bids()
    ear = Eavesdropper(urlsplit(server_url).port)
    for bid in bids:
        with pytest.raises(InvalidBid):
            Batch.get(bid, app=app)
        for value in (
            {"bid": bid, "index": 0},
            {"bid": bid, "late": True, "of": [0, "x"]},
            {"bid": bid, "delivery": "success:0"},
        ):
            assert read_header(value, "task") is None
    assert len(set(bids)) == 200
    heard = ear.close()
    assert "batches" not in heard and "batch-" not in heard


@pytest.mark.parametrize("bid", [None, 1, b"bid4567890", ["bid4567890"], {"bid": 1}, True, 1.5])
def test_a_bid_that_is_no_text_is_refused(bid: object, app: Celery) -> None:
    with pytest.raises(InvalidBid):
        Batch.get(bid, app=app)
    assert read_header({"bid": bid, "index": 0}, "task") is None


def test_the_text_of_the_error_is_short_and_harmless() -> None:
    for bid in malicious_bids():
        with pytest.raises(InvalidBid) as error:
            check_bid(bid)
        words = str(error.value)
        assert len(words) < 500
        assert not re.search(r"[\x00-\x1f\x7f-\x9f\u202a-\u202e\ud800-\udfff]", words)


def test_all_that_is_touched_for_a_well_formed_bid_lies_under_the_prefix(
    make_app: Callable[..., Celery], server_url: str
) -> None:
    app = make_app(batches_prefix="ours.only")
    ear = Eavesdropper(urlsplit(server_url).port)
    store = app._batches_extension.engine.store
    for bid in ("celery-task-meta-x", "a" * 10, "-" * 64, "__class__x", "FLUSHALL00"):
        member = Membership(bid=bid, index=0, task_id="x")
        with pytest.raises(NoSuchBatch):
            Batch.get(bid, app=app)
        assert store.record_outcome(member, SUCCEEDED).word == "gone"
        assert not store.delete_batch(bid)
        assert list(Follow(store, bid)) == []
        with pytest.raises(NoSuchBatch):
            store.claim_deliveries(bid)
    heard = ear.close()
    lines = [line for line in heard.splitlines() if " lua]" not in line and '"EVAL"' not in line]
    words = {word for line in lines for word in re.findall(r'"((?:[^"\\]|\\.)*)"', line)[1:]}
    named = {word for word in words if re.search(r"a{10}|-{10}|__class__x|FLUSHALL00|celery-task|ours", word)}
    bids = {word for word in named if re.fullmatch(r"[A-Za-z0-9_-]+(:terminate)?", word)}
    assert named - bids, "something was asked"
    assert all(word.startswith(("ours.only:", "batch-")) for word in named - bids)


def test_the_commands_refuse_a_malicious_profile_without_a_traceback(app: Celery) -> None:
    from celery_batches_notify.cli import batch

    for words in ("../../x", "webhook:\x1b]0;x", "os:system", "*"):
        answer = CliRunner().invoke(batch, ["test-notify", words], obj=None)
        assert answer.exit_code != 0


# -- members (T39) ------------------------------------------------------------------------------------


def test_a_thousand_foreign_tasks_with_a_real_bid_change_nothing(app: Celery, redis: Redis) -> None:
    """The forged members name every index, and some that do not exist."""
    batch = Batch(app=app, keep_open=True).on("success", app.tasks["told"].s())
    mine = batch.add(*(app.tasks["told"].s() for _ in range(5)))
    batch.seal()
    engine = app._batches_extension.engine
    before = {key: redis.dump(key) for key in redis.keys("batches*")}
    draw = Random(39)
    states = (State.SUCCEEDED, State.DEAD, State.FAILING)
    for k in range(1000):
        place = draw.choice([0, 1, 2, 3, 4, 5, 99, 2**31, 10**30])
        mark = {"bid": batch.bid, "index": place, "round": draw.choice([0, 1, 15, 2**40])}
        if k % 4 == 0:
            mark = {
                "bid": batch.bid,
                "late": True,
                "of": [place, draw.choice([str(uuid4()), mine[0].id[:-1]])],
            }
        member = read_header(mark, str(uuid4()))
        assert isinstance(member, Membership)
        outcome = Outcome(state=draw.choice(states), attempt=draw.choice([1, 2, 5000]), reason="failed")
        engine.reporter.report(member, outcome, seconds=30)
    assert {key: redis.dump(key) for key in redis.keys("batches*")} == before
    for result in mine:
        place = [r.id for r in mine].index(result.id)
        member = Membership(bid=batch.bid, index=place, task_id=result.id)
        engine.reporter.report(member, SUCCEEDED, seconds=30)
    assert batch.status().state == "success"
    assert app._batches_extension.engine.outgoing.flush(10)


def test_a_member_cannot_speak_for_another(app: Celery) -> None:
    batch = Batch(app=app, keep_open=True)
    first, second = batch.add(*(app.tasks["told"].s() for _ in range(2)))
    store = app._batches_extension.engine.store
    assert (
        store.record_outcome(Membership(bid=batch.bid, index=1, task_id=first.id), SUCCEEDED).word
        == "stranger"
    )
    assert (
        store.record_outcome(Membership(bid=batch.bid, index=1, task_id=second.id), SUCCEEDED).word
        == "counted"
    )
    assert batch.status().succeeded == 1


# -- failures (T40) -----------------------------------------------------------------------------------


def test_ten_thousand_failures_of_a_megabyte_each_take_less_than_300_kb(app: Celery, redis: Redis) -> None:
    count, message = 10_000, "x" * 1_000_000
    batch = Batch(app=app, keep_open=True)
    results = batch.add(*(app.tasks["told"].s() for _ in range(count)))
    batch.seal()
    store = app._batches_extension.engine.store
    for index, result in enumerate(results):
        outcome = outcomes.dead(Context(id=result.id), "told", "failed", ValueError(message))
        store.record_outcome(Membership(bid=batch.bid, index=index, task_id=result.id), outcome)
    status = batch.status()
    assert (status.dead, status.state, len(status.failure_info)) == (count, "dead", 100)
    assert redis.memory_usage(f"batches:{{{batch.bid}}}:failures", samples=0) < 300_000
    members = sum(
        redis.memory_usage(f"batches:{{{batch.bid}}}:{part}") for part in ("states", "members", "attempts")
    )
    assert members < 50 * count


def test_text_of_any_script_takes_no_more_than_its_characters(app: Celery, redis: Redis) -> None:
    """Characters that JSON escapes in six bytes take one to four."""
    for char, octets in (("\U0001f600", 4), ("字", 3), ("é", 2), ("\ud800", 1)):
        batch = Batch(app=app, keep_open=True)
        (result,) = batch.add(app.tasks["told"].s())
        error = ValueError(char * 1_000_000)
        outcome = outcomes.dead(Context(id=result.id), "told", "failed", error, char * 1_000_000)
        store = app._batches_extension.engine.store
        store.record_outcome(Membership(bid=batch.bid, index=0, task_id=result.id), outcome)
        assert redis.memory_usage(f"batches:{{{batch.bid}}}:failures", samples=0) < octets * 6000 + 3000
