"""Bids for a shell to offer: those of the newest batches."""

from __future__ import annotations

import logging
from itertools import islice

from celery import Celery
from celery.app.utils import find_app

from celery_batches_notify.engine import find_engine
from celery_batches_notify.headline import headline

NEWEST = 50


def complete_bid(app: Celery | str | None, begun: str) -> list[tuple[str, str]]:
    """Return the bids with this beginning, each with the batch's headline; after an error, return nothing.

    Args:
        app: The argument of `celery -A`, or None.
        begun: The beginning that was typed.
    """
    logging.disable()  # the shell shows what a completion prints
    try:
        engine = find_engine(find_app(app) if isinstance(app, str) else app)
        newest = islice(engine.store.list_outlines(standings=False), NEWEST)
        rows = engine.store.read_rows([each.bid for each in newest if each.bid.startswith(begun)])
        return [(row.bid, headline(row.status)) for row in rows.values() if row.status]
    except Exception:  # noqa: BLE001 - the user's own module may raise anything, and a Tab must not
        return []
    finally:
        logging.disable(logging.NOTSET)
