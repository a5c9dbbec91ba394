"""Deliveries that wait for their address: no message is sent for nothing, and the log says what for."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from celery_batches_notify.delivery.backoff import fallback_after
from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.model import DeliveryNote
from celery_batches_notify.store.outbox import Address, parse_address
from celery_batches_notify.store.parsing import Snapshot
from celery_batches_notify.store.recorded import Claim
from celery_batches_notify.store.store import Store

PROBE_SECONDS = 60


def is_put_off(
    store: Store, claim: Claim, declared: Mapping[str, Any], snapshot: Snapshot, drawn: float
) -> bool:
    """Put a delivery off whose address is still left alone; return whether that was so.

    Args:
        store: Where it is.
        claim: The delivery.
        declared: What `on()` was given.
        snapshot: Its batch.
        drawn: A random number from 0 to 1.
    """
    address = parse_address(snapshot.batch, claim.entry)
    if address is None:
        return False
    wait = store.ask_address(address.key, "publish", seconds=PROBE_SECONDS).seconds
    if not wait:
        return False
    bid, entry, attempt = snapshot.bid, claim.entry, claim.attempts + 1
    store.settle_delivery(
        *(bid, entry, "postponed", attempt),
        delay_seconds=fallback_after(wait, drawn),
        note=note_wait(declared, address, snapshot.now, wait, last=claim.last),
        waits_for=str(address),
        number=claim.number,
    )
    if not claim.last:
        store.ask_address(address.key, "follow", f"{bid} {entry}")
    return True


def note_wait(
    declared: Mapping[str, Any],
    address: Address,
    now: datetime,
    wait: float,
    failed: NotificationFailed | None = None,
    *,
    last: bool = False,
) -> DeliveryNote:
    """Say what a delivery waits for, and until when; or that it waited until its last attempt."""
    until = now + timedelta(seconds=wait)
    why = f"busy ({failed})" if failed else "left alone, because it failed"
    words = f"{address.shown} is {why}, until {until:%Y-%m-%d %H:%M:%S} UTC"
    detail = f"too late for another attempt: {words}" if last else f"not tried: {words}"
    return DeliveryNote(channel=str(declared.get("target", "nobody")), detail=detail)
