"""Repairing batches, and printing the number of repairs."""

from __future__ import annotations

from typing import Any

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.doctor.reconcile import Repairs, reconcile_all, reconcile_batch

WORDS = {
    "succeeded": "succeeded by their results",
    "failing": "failing by their results",
    "dead": "dead by their results",
    "vanished": "vanished, counted as dead",
    "resent": "vanished, sent again",
    "unsure": "left alone: they ended, but may be part of a canvas that goes on",
    "fired": "callbacks fired that had not",
    "redriven": "deliveries published again",
    "listed": "lists mended",
}


def repair(app: Celery, out: Output, *, bid: str | None, vanished: str) -> int:
    """Reconcile one batch, or all live ones, and print the repairs; return the exit code.

    Raises:
        BatchesError: The batch does not exist, the store is away, or a setting is wrong.
    """
    engine = engine_of(app)
    if bid is not None:
        repairs = reconcile_batch(engine, check_bid(bid), vanished=vanished)
        _say_notes(repairs, out)
        return out.end(_describe(bid, repairs), 0, bid=bid, **_fields(repairs))
    number, whole = 0, Repairs()
    for each, repairs in reconcile_all(engine, vanished=vanished):
        number += 1
        whole += repairs
        if repairs.total or repairs.unsure:
            out.say(_describe(each, repairs), bid=each, **_fields(repairs))
    _say_notes(whole, out)
    return out.end(_describe(f"{number} live batches", whole), 0, batches=number, **_fields(whole))


def _describe(what: str, repairs: Repairs) -> str:
    done = [f"{count:,} {WORDS[name]}" for name, count in repairs.counts.items() if count]
    return f"{what}: {', '.join(done) or 'nothing to repair'}"


def _fields(repairs: Repairs) -> dict[str, Any]:
    return {**repairs.counts, "notes": list(repairs.notes)}


def _say_notes(repairs: Repairs, out: Output) -> None:
    for note in () if out.as_json else repairs.notes:
        out.say(f"note: {note}")
