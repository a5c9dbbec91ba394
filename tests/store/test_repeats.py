"""Every script, called twice and from 16 threads, leaves what one call leaves."""

from __future__ import annotations

from importlib.resources import files

import pytest

from celery_batches_notify.store.store import Store
from tests.support.scripts import together
from tests.support.store_calls import CALLS, prepare, settled


def test_no_script_is_forgotten_here() -> None:
    texts = files("celery_batches_notify.store.scripts").iterdir()
    names = {text.name.removesuffix(".lua") for text in texts if text.name.endswith(".lua")}
    assert names == set(CALLS)


@pytest.mark.parametrize("name", CALLS)
def test_a_second_call_changes_nothing(store: Store, name: str) -> None:
    before, call = CALLS[name]
    prepare(store)
    before(store)
    call(store)
    once = settled(store)
    for _ in range(3):
        try:
            call(store)
        except StopIteration:
            assert name == "retire_batch"
        except ValueError:
            assert name == "retire_batch", "it is off the list"
    assert settled(store) == once


@pytest.mark.parametrize("name", sorted(set(CALLS) - {"retire_batch", "drop_entries"}))
def test_sixteen_calls_at_once_leave_what_one_leaves(store: Store, name: str) -> None:
    before, call = CALLS[name]
    prepare(store)
    before(store)
    call(store)
    once = settled(store)
    store.client.flushall()
    prepare(store)
    before(store)
    results = together(*(lambda: call(store) for _ in range(16)))
    assert not [r for r in results if isinstance(r, Exception)]
    assert settled(store) == once
