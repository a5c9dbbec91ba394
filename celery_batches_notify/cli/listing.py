"""The batches that are kept, newest first, one per line."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence

from celery import Celery

from celery_batches_notify.checks import check_state
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode
from celery_batches_notify.cli.output import Output
from celery_batches_notify.headline import judge, name_of
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.store.outlines import Outline
from celery_batches_notify.store.statuses import ROWS_AT_ONCE
from celery_batches_notify.store.store import Store

logger = logging.getLogger(__name__)


def list_batches(
    app: Celery, out: Output, *, text: str | None, state: str | None, tag: str | None, limit: int
) -> int:
    """Print the newest batches that fit; return the exit code.

    Raises:
        InvalidState: No batch can be in this state.
        StoreUnavailable: The store is away.
    """
    wanted = check_state(state) if state is not None else None
    store = engine_of(app).store
    looked_at = 0
    found: list[str] = []
    is_more = False
    for outline in store.list_outlines(standings=wanted is not None):
        looked_at += 1
        if _fits(outline, text, wanted, tag):
            if is_more := len(found) == limit:
                break
            found.append(outline.bid)
    listed = 0
    for status in _read(store, found, out):
        listed += 1
        out.say(describe(status), **status.as_dict())
    if out.as_json:
        out.finish(ExitCode.DONE, listed=listed, looked_at=looked_at, more=is_more)
    elif is_more:
        out.say(f"the newest {limit:,} only: --limit shows more")
    elif not listed:
        out.say(f"none of the {looked_at:,} batches that are kept" if looked_at else "no batch is kept")
    return ExitCode.DONE


def describe(status: BatchStatus) -> str:
    """Say in one line which batch it is and how it goes."""
    ended = status.succeeded + status.dead
    tags = "".join(f" #{tag}" for tag in status.tags)
    figures = f"{int(status.progress * 100)}% {ended:,}/{status.total:,}"
    begun = f"{status.created_at.astimezone():%Y-%m-%d %H:%M}"
    return f"{status.bid} {judge(status).sign} {status.state} {figures} {begun} {name_of(status)}{tags}"


def _read(store: Store, bids: Sequence[str], out: Output) -> Iterator[BatchStatus]:
    """Read batches: all of each for programs, and for people the few fields that a line shows."""
    if out.as_json:
        yield from store.read_statuses(bids)
        return
    for start in range(0, len(bids), ROWS_AT_ONCE):
        for row in store.read_rows(bids[start : start + ROWS_AT_ONCE]).values():
            if row.status is not None:
                yield row.status
            else:
                BatchLog(logger, bid=row.bid).warning("left out of the list: %s", row.why)


def _fits(outline: Outline, text: str | None, state: str | None, tag: str | None) -> bool:
    if tag is not None and tag not in outline.tags:
        return False
    if state is not None and not outline.is_in(state):
        return False
    return text is None or text.lower() in outline.description.lower() or text in outline.bid
