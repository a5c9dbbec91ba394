"""Progress as server-sent events, for your own views: `progress_events(bid)`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import asdict

from celery import Celery
from kombu.utils import json

from celery_batches_notify.checks import check_bid
from celery_batches_notify.engine import find_engine
from celery_batches_notify.store.follow import Follow


def progress_events(bid: str, *, app: Celery | None = None) -> AsyncIterator[str]:
    """Return a batch's progress as server-sent events, as it moves, until it has finished.

    Pass it to a streaming response with the media type `text/event-stream`. Each event has the name
    `progress`, and its data is JSON: the fields of `Progress`, and `progress`, the share that has ended.

    Args:
        bid: The batch.
        app: The Celery app; by default the current one.

    Raises:
        InvalidBid: The id is malformed.
        StoreUnavailable: Asked for an event, if the store is away.
    """
    return _encode(Follow(find_engine(app).store, check_bid(bid)))


async def _encode(readings: Follow) -> AsyncIterator[str]:
    async for progress in readings:
        data = json.dumps({**asdict(progress), "progress": round(progress.progress, 4)})
        yield f"event: progress\ndata: {data}\n\n"
