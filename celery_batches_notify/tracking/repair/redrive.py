"""Redriving: deliveries that are due are published, and those whose task is nowhere any more once again."""

from __future__ import annotations

from datetime import timedelta

from celery import states

from celery_batches_notify.delivery.publisher import callback_id
from celery_batches_notify.model import CallbackStatus, State
from celery_batches_notify.store.reading import Member, parse_status
from celery_batches_notify.tracking.engine import Engine
from celery_batches_notify.tracking.repair.whereabouts import Kind, look_for

QUIET = timedelta(seconds=60)


def redrive_deliveries(engine: Engine, bid: str) -> int:
    """Publish what is due, and what was published and got lost; return how many. Raises `NoSuchBatch`."""
    for callback in _find_lost(engine, bid):
        engine.store.settle_delivery(bid, callback.entry, "due", callback.attempts)
    claims = engine.store.claim_deliveries(bid)
    engine.publisher.publish_due(bid, claims)
    return len(claims)


def _find_lost(engine: Engine, bid: str) -> list[CallbackStatus]:
    """The callbacks that were published a while ago, and of which neither broker nor workers know."""
    snapshot = engine.store.read_snapshot(bid)
    status = parse_status(snapshot, engine.settings.stall_after)
    fired_at = {
        callback.event: getattr(status, f"{callback.event}_at", None) for callback in status.callbacks
    }
    published = [
        callback
        for callback in status.callbacks
        if callback.state == "published"
        and (at := fired_at[callback.event]) is not None
        and snapshot.now - at > QUIET
    ]
    for _ in range(2):  # one that moves could pass by one look
        if not published:
            return []
        tasks = [
            Member(index=k, id=callback_id(bid, c.entry), state=State.WAITING)
            for k, c in enumerate(published)
        ]
        look = look_for(engine, tasks)
        if look.doubt:
            return []
        for place in look.places:
            if place.kind is Kind.ENDED and place.where == states.SUCCESS:
                callback = published[place.member.index]
                engine.store.settle_delivery(bid, callback.entry, "delivered", callback.attempts)
        published = [published[p.member.index] for p in look.places if p.kind is Kind.VANISHED]
    return published
