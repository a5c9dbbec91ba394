"""Publish overdue deliveries, and publish again those whose task has vanished."""

from __future__ import annotations

from celery import states

from celery_batches_notify.doctor.callbacks import QUIET, OpenCallback, find_open
from celery_batches_notify.doctor.locate import Kind, locate
from celery_batches_notify.engine import Engine
from celery_batches_notify.model import DeliveryNote
from celery_batches_notify.store.parsing import parse_status


def republish_lost(engine: Engine, bid: str) -> int:
    """Publish the due and the lost deliveries of a batch; return their number. Raises `NoSuchBatch`."""
    for callback in _find_lost(engine, bid):
        _settle(engine, callback, "due", "its message was lost")
    recorded = engine.store.claim_deliveries(bid)
    engine.publisher.publish(bid, recorded)
    return len(recorded.due)


def _find_lost(engine: Engine, bid: str) -> list[OpenCallback]:
    """Return the callbacks published a while ago that neither the broker nor a worker has."""
    snapshot = engine.store.read_snapshot(bid)
    found = find_open(engine, snapshot, parse_status(snapshot, engine.settings.stall_after))
    published = [each for each in found if each.is_published and snapshot.now - each.since > QUIET]
    for _ in range(2):  # a single look can miss a message that moves
        if not published:
            return []
        look = locate(engine, [callback.as_member(k) for k, callback in enumerate(published)])
        if look.doubt:
            return []
        for place in look.places:
            if place.kind is Kind.ENDED:
                happened = "delivered" if place.where == states.SUCCESS else "given_up"
                _settle(engine, published[place.member.index], happened, f"its result is {place.where}")
        published = [published[p.member.index] for p in look.places if p.kind is Kind.VANISHED]
    return published


def _settle(engine: Engine, callback: OpenCallback, happened: str, detail: str) -> None:
    note = DeliveryNote(channel=callback.status.target, detail=detail)
    entry, attempts = callback.status.entry, callback.status.attempts
    engine.store.settle_delivery(callback.bid, entry, happened, attempts, note=note)
