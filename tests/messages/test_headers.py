from __future__ import annotations

import pytest

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import DeliveryRef, read_header, strip_header, write_header

BID = "0123456789abcdefABCD-_"


def test_a_members_header_is_read_as_it_was_written() -> None:
    for round_ in (0, 3):
        member = Membership(bid=BID, index=7, task_id="t", round=round_)
        headers: dict[str, object] = {"id": "t", "headers": {"trace": 1}}
        write_header(headers, member)
        assert read_header(headers["batches"], "t") == member
        assert headers["headers"] == {"trace": 1, "batches": headers["batches"]}
    assert headers["batches"] == {"bid": BID, "index": 7, "round": 3}


@pytest.mark.parametrize("turn", [0, 2])
@pytest.mark.parametrize("of", [None, (3, "first")])
def test_a_successors_header_is_read_as_it_was_written(of: tuple[int, str] | None, turn: int) -> None:
    member = Membership(bid=BID, index=None, task_id="t", of=of, turn=turn)
    headers: dict[str, object] = {}
    write_header(headers, member)
    assert read_header(headers["batches"], "t") == member


def test_a_successors_header_says_late() -> None:
    headers: dict[str, object] = {}
    write_header(headers, Membership(bid=BID, index=None, task_id="t"))
    assert headers["batches"] == {"bid": BID, "late": True}


def test_a_notifications_header_names_the_claim_that_published_it() -> None:
    task_id, headers = f"cb_{BID}_complete_0", {}
    ref = DeliveryRef(bid=BID, entry="complete:0", number=3)
    write_header(headers, ref)
    assert headers["batches"] == {"bid": BID, "delivery": "complete:0", "claim": 3}
    assert read_header(headers["batches"], task_id) == ref
    assert read_header(headers["batches"] | {"claim": "3"}, task_id) is None


def test_a_callbacks_header_counts_only_under_its_own_id() -> None:
    header = {"bid": BID, "delivery": "complete:0"}
    assert read_header(header, f"cb_{BID}_complete_0") == DeliveryRef(bid=BID, entry="complete:0")
    assert read_header(header, f"cb_{BID}_complete_1") is None
    assert read_header(header, "t") is None


@pytest.mark.parametrize(
    "header",
    [
        None,
        [],
        "text",
        {},
        {"bid": BID},
        {"index": 0},
        {"bid": BID, "index": -1},
        {"bid": BID, "index": True},
        {"bid": BID, "index": "0"},
        {"bid": BID, "index": 0.0},
        {"bid": BID, "index": 0, "round": -1},
        {"bid": "short", "index": 0},
        {"bid": "a{b}" * 5, "index": 0},
        {"bid": BID + "\n", "index": 0},
        {"bid": "x" * 10_000, "index": 0},
        {"bid": 7, "index": 0},
        {"bid": BID, "delivery": 7},
        {"bid": BID, "late": 1},
        {"bid": BID, "late": True, "of": "ab"},
        {"bid": BID, "late": True, "of": [0]},
        {"bid": BID, "late": True, "of": [0, 1]},
        {"bid": BID, "late": True, "of": [True, "a"]},
        {"bid": BID, "late": True, "of": [-1, "a"]},
        {"bid": BID, "late": True, "turn": -1},
        {"bid": BID, "late": True, "turn": "1"},
    ],
    ids=repr,
)
def test_a_malformed_header_counts_for_nothing(header: object) -> None:
    assert read_header(header, "t") is None


def test_a_message_without_an_id_is_nothing_of_ours() -> None:
    assert read_header({"bid": BID, "index": 0}, None) is None


def test_stripping_leaves_foreign_headers() -> None:
    ours = {"bid": BID, "index": 0}
    headers = {"batches": ours, "x": 1, "headers": {"batches": ours, "trace": 1}}
    strip_header(headers)
    assert headers == {"x": 1, "headers": {"trace": 1}}


def test_a_users_own_header_of_the_same_name_stays() -> None:
    headers = {"batches": {"other": 1}, "headers": {"batches": 7}}
    strip_header(headers)
    assert headers == {"batches": {"other": 1}, "headers": {"batches": 7}}
