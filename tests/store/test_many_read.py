"""Fields of many batches, which a script reads, are those that commands read."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from celery_batches_notify.store import statuses
from celery_batches_notify.store.store import Store

FIELDS = ("schema", "description", "tags", "total")
HELD = [
    {"schema": "2", "description": "Import", "tags": '["a/b"]', "total": 3},
    {"schema": "2", "description": "", "total": -1},
    {"schema": "3", "description": '日本 \U0001f600 \x00\x1b\x7f\r\n"\\/ <script>'},
    {"schema": b"\xff\xfe", "description": bytes(range(256)), "tags": "x" * 10_000},
    {"other": "1"},
    {},
]
BIDS = [f"bid-of-number-{n}" for n in range(statuses.MANY)]


@pytest.fixture
def held(store: Store) -> Store:
    for bid, fields in zip(BIDS, HELD, strict=False):
        if fields:
            store.client.hset(store.keys.batch(bid), mapping=fields)
            store.client.expire(store.keys.batch(bid), 60)
    return store


def test_a_script_reads_what_commands_read(held: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    now, by_script = held._read_fields(BIDS, FIELDS)
    monkeypatch.setattr(statuses, "MANY", 1000)
    then, by_commands = held._read_fields(BIDS, FIELDS)
    assert by_script == by_commands
    assert by_script[3][1] == bytes(range(256))
    assert 0 <= (then - now).total_seconds() < 60


def test_a_batch_that_cannot_be_read_hides_no_other(held: Store) -> None:
    held.client.set(held.keys.batch(BIDS[4]), "a text", ex=60)
    answers = held._read_fields(BIDS, FIELDS)[1]
    assert isinstance(answers[4], ResponseError)
    assert "WRONGTYPE" in str(answers[4])
    assert answers[0] == [b"2", b"Import", b'["a/b"]', b"3"]
    by_bid = {each.bid: each for each in held.read_outlines(BIDS)}
    assert by_bid[BIDS[0]].description == "Import"
    assert "can only be deleted" in by_bid[BIDS[4]].why
    assert BIDS[5] not in by_bid
