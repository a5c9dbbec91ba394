"""The curve of a batch's progress, which the scripts write whether or not anybody watches."""

from __future__ import annotations

import pytest

from celery_batches_notify.store.parsing import parse_curve
from celery_batches_notify.store.store import Store
from tests.support.scripts import BID, SUCCEEDED, dead, open_batch


def curve(store: Store) -> list[int]:
    return [ended for _, ended in parse_curve(store.read_snapshot(BID))]


@pytest.mark.parametrize("total", [64, 100, 1000])
def test_each_64th_of_the_members_leaves_a_mark_and_the_last_one_is_the_total(
    store: Store, total: int
) -> None:
    members = open_batch(store, total)
    store.seal_batch(BID)
    for index, member in enumerate(members):
        store.record_outcome(member, dead() if index % 7 == 3 else SUCCEEDED)
    found = curve(store)
    assert found == sorted(set(found))
    assert len(found) >= 64
    assert found[-1] == total


def test_a_small_batch_has_no_curve(store: Store) -> None:
    members = open_batch(store, 63)
    store.seal_batch(BID)
    for member in members:
        store.record_outcome(member, SUCCEEDED)
    assert curve(store) == []


def test_an_open_batch_has_no_curve_because_its_total_grows(store: Store) -> None:
    for member in open_batch(store, 64):
        store.record_outcome(member, SUCCEEDED)
    assert curve(store) == []


def test_the_curve_lives_as_long_as_its_batch(store: Store) -> None:
    members = open_batch(store, 64)
    store.seal_batch(BID)
    store.record_outcome(members[0], SUCCEEDED)
    key = store.keys.batch(BID)
    longest = store.client.pttl(key)
    assert 0 < store.client.pttl(f"{key}:curve") <= longest
