"""Repairing batches, and saying in numbers what was done."""

from __future__ import annotations

from collections.abc import Callable

from celery import Celery

from celery_batches_notify.checks import check_bid
from celery_batches_notify.cli.engine_of import engine_of
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


def repair(app: Celery, bid: str | None, vanished: str, echo: Callable[[str], None]) -> int:
    """Reconcile one batch, or all live ones, and print what was done; return the exit code.

    Raises:
        BatchesError: There is no such batch, the store is away, or a setting is wrong.
    """
    engine = engine_of(app)
    if bid is not None:
        _tell(bid, reconcile_batch(engine, check_bid(bid), vanished=vanished), echo)
        return 0
    number, whole = 0, Repairs()
    for each, repairs in reconcile_all(engine, vanished=vanished):
        number += 1
        whole += repairs
        if repairs.total or repairs.unsure:
            _tell(each, repairs, lambda line: echo(line) if not line.startswith("note: ") else None)
    _tell(f"{number} live batches", whole, echo)
    return 0


def _tell(what: str, repairs: Repairs, echo: Callable[[str], None]) -> None:
    done = [f"{count:,} {WORDS[name]}" for name, count in repairs.counts.items() if count]
    echo(f"{what}: {', '.join(done) or 'nothing to repair'}")
    for note in repairs.notes:
        echo(f"note: {note}")
