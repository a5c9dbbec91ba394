from __future__ import annotations

import json
from dataclasses import asdict
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import DeliveryNote, Failure
from celery_batches_notify.worker.spool_records import (
    NUMBER_AT_MOST,
    Message,
    Report,
    Settlement,
    UnreadableLine,
    pack_line,
    parse_line,
)

NUMBERS = st.integers(0, NUMBER_AT_MOST - 1)
TEXTS = st.text(st.characters(), max_size=20)  # lone surrogates and line ends too
BIDS = st.from_regex(r"[A-Za-z0-9_-]{10,64}", fullmatch=True)
MEMBERS = st.builds(
    Membership,
    bid=BIDS,
    index=st.none() | NUMBERS,
    task_id=TEXTS,
    round=NUMBERS,
    of=st.none() | st.tuples(NUMBERS, TEXTS),
    turn=NUMBERS,
)
FAILURES = st.builds(
    Failure,
    task_id=TEXTS,
    task=TEXTS,
    error_class=TEXTS,
    error_message=TEXTS,
    backtrace=st.none() | TEXTS,
    retries=NUMBERS,
    failed_at=st.none(),
)
MANY = st.lists(MEMBERS, max_size=3).map(tuple)
OUTCOMES = st.builds(
    Outcome,
    state=st.sampled_from([State.FAILING, State.DEAD, State.SUCCEEDED]),
    attempt=NUMBERS,
    reason=st.none() | TEXTS,
    failure=st.none() | FAILURES,
    resend=TEXTS,
    unsendable=TEXTS,
    successors=MANY,
    body=MANY,
    breaks_chord=st.booleans(),
)
NOTES = st.builds(
    DeliveryNote,
    channel=TEXTS,
    status_code=st.none() | NUMBERS,
    detail=TEXTS,
)
SETTLEMENTS = st.builds(
    Settlement,
    bid=BIDS,
    entry=st.from_regex(r"[a-z]{1,9}:[0-9]{1,4}", fullmatch=True),
    happened=st.sampled_from(["due", "delivered", "given_up", "lost", "retried"]),
    delay_seconds=NUMBERS,
    note=st.none() | NOTES,
)
SAID: Report = Report(
    member=Membership(bid="b" * 22, index=0, task_id="t", of=(0, "f")),
    outcome=Outcome(
        state=State.DEAD,
        failure=Failure(task_id="t", task="n", error_class="E", error_message="m", backtrace=None, retries=0),
        successors=(Membership(bid="b" * 22, index=None, task_id="s"),),
    ),
)


@settings(max_examples=200, deadline=None)
@given(st.builds(Report, member=MEMBERS, outcome=OUTCOMES) | SETTLEMENTS)
def test_a_line_gives_back_all_that_was_said(said: Message) -> None:
    line = pack_line(said)
    assert parse_line(line + b"\n") == said
    assert b"\n" not in line


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"\x00\xff\xfe",
        b"null",
        b"[]",
        b'{"v": 2, "report": {}}',
        b'{"v": true, "report": {"member": {}, "outcome": {}}}',
        b'{"v": 1}',
        b'{"v": 1, "report": []}',
        b'{"v": 1, "settlement": 7}',
        b"[" * 100_000,
        b'{"v": ' + b"9" * 10_000 + b"}",
        pack_line(SAID)[:-1],
        pack_line(SAID) * 2,
    ],
)
def test_a_line_that_is_not_ours_is_refused(line: bytes) -> None:
    with pytest.raises(UnreadableLine):
        parse_line(line)


PLACES = ("member", "outcome", "outcome.failure", "outcome.successors.0")


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("wrong", [None, True, -1, 1.5, 2**70, [], {}, [[]], {"a": 1}, "x"])
def test_a_value_of_the_wrong_kind_is_refused_or_read_as_what_it_is(place: str, wrong: object) -> None:
    whole = json.loads(pack_line(SAID))
    target: Any = whole["report"]
    for step in place.split("."):
        target = target[int(step) if step.isdigit() else step]
    for name, right in list(target.items()):
        target[name] = wrong
        try:
            said = parse_line(json.dumps(whole).encode())
        except UnreadableLine:
            pass
        else:
            assert parse_line(pack_line(said)) == said, (name, "what was let through is of our kinds")
        target[name] = right
    assert parse_line(json.dumps(whole).encode()) == SAID


@pytest.mark.parametrize("bid", ["../../etc/passwd", "short", "x" * 65, "a" * 21 + "\n", None, 5])
def test_a_bid_is_checked_as_one_from_a_message(bid: object) -> None:
    whole = json.loads(pack_line(SAID))
    whole["report"]["member"]["bid"] = bid
    with pytest.raises(UnreadableLine):
        parse_line(json.dumps(whole).encode())


@pytest.mark.parametrize(
    ("name", "value"), [("entry", "x"), ("entry", "a:1:2"), ("happened", "published"), ("happened", [])]
)
def test_a_settlement_names_a_delivery_and_an_end(name: str, value: object) -> None:
    whole = json.loads(pack_line(Settlement(bid="b" * 22, entry="death:0", happened="due")))
    whole["settlement"][name] = value
    with pytest.raises(UnreadableLine):
        parse_line(json.dumps(whole).encode())


def test_waiting_is_no_outcome() -> None:
    whole = json.loads(pack_line(SAID))
    whole["report"]["outcome"]["state"] = 0
    with pytest.raises(UnreadableLine):
        parse_line(json.dumps(whole).encode())


# -- reports that name very many others ----------------------------------------------------------


def many(count: int, **more: object) -> Report:
    first = Membership(bid="b" * 22, index=7, task_id="first")
    late = (
        Membership(bid=first.bid, index=None, task_id=str(uuid4()), of=first.origin) for _ in range(count)
    )
    return Report(member=first, outcome=Outcome(state=State.SUCCEEDED, successors=tuple(late), **more))


def test_a_report_takes_no_more_than_an_id_for_each_that_it_names() -> None:
    said = many(1000)
    assert parse_line(pack_line(said)) == said
    assert len(pack_line(said)) < 1000 * (36 + 3) + 1000


def test_a_line_as_it_was_written_before_is_read() -> None:
    """A worker that is upgraded while its store is away leaves such lines."""
    late = {"bid": "b" * 22, "index": None, "task_id": "s", "round": 0, "of": [7, "first"], "turn": 0}
    body = late | {"task_id": "body", "turn": 1}
    member = {"bid": "b" * 22, "index": 7, "task_id": "first", "round": 1, "of": None, "turn": 0}
    outcome = {
        "state": 3,
        "attempt": 2,
        "reason": None,
        "failure": None,
        "resend": "",
        "unsendable": "not kept",
    }
    outcome |= {"successors": [late], "body": [body], "breaks_chord": False}
    line = json.dumps({"v": 1, "report": {"member": member, "outcome": outcome}})
    first = Membership(bid="b" * 22, index=7, task_id="first", round=1)
    said = parse_line(line.encode())
    assert said == Report(
        member=first,
        outcome=Outcome(
            state=State.SUCCEEDED,
            attempt=2,
            successors=(Membership(bid="b" * 22, index=None, task_id="s", of=first.origin),),
            body=(Membership(bid="b" * 22, index=None, task_id="body", of=first.origin, turn=1),),
        ),
    )


def test_a_report_without_successors_is_written_as_before() -> None:
    """An older worker on the same host can read it from their spool."""
    said = Report(
        member=Membership(bid="b" * 22, index=0, task_id="t"), outcome=Outcome(state=State.SUCCEEDED)
    )
    assert json.loads(pack_line(said)) == {"v": 1, "report": json.loads(json.dumps(asdict(said)))}
