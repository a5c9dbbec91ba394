"""Deliveries that wait for their address: they send no message in vain, and the log says why they wait."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from celery_batches_notify.delivery.backoff import fallback_after
from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.model import DeliveryNote
from celery_batches_notify.store.addresses import pack_delivery
from celery_batches_notify.store.outbox import Address, parse_address
from celery_batches_notify.store.parsing import Snapshot
from celery_batches_notify.store.recorded import Claim
from celery_batches_notify.store.store import Store

PROBE_SECONDS = 60


def put_off(
    store: Store, claim: Claim, declared: Mapping[str, Any], snapshot: Snapshot, drawn: float
) -> bool:
    """Put a delivery off if its address still rests; return whether it does.

    Args:
        store: The store that holds both.
        claim: The delivery.
        declared: Its declaration, as `on()` stored it.
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
        store.ask_address(address.key, "follow", pack_delivery(bid, entry))
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
    """Return the log's note on a delivery that waits: for which address and until when, or in vain."""
    until = now + timedelta(seconds=wait)
    why = f"busy ({failed})" if failed else "left alone, because it failed"
    reason = f"{address.shown} is {why}, until {until:%Y-%m-%d %H:%M:%S} UTC"
    detail = f"too late for another attempt: {reason}" if last else f"not tried: {reason}"
    return DeliveryNote(channel=str(declared.get("target", "nobody")), detail=detail)
