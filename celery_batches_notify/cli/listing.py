"""The batches that are kept, newest first, one per line."""

from __future__ import annotations

from celery import Celery

from celery_batches_notify.checks import check_state
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode
from celery_batches_notify.cli.output import Output
from celery_batches_notify.headline import judge, name_of
from celery_batches_notify.model import BatchStatus


def list_batches(
    app: Celery, out: Output, *, text: str | None, state: str | None, tag: str | None, limit: int
) -> int:
    """Print the newest batches that fit; return the exit code.

    Raises:
        InvalidState: No batch can be in this state.
        StoreUnavailable: The store is away.
    """
    wanted = check_state(state) if state is not None else None
    looked_at = listed = 0
    is_more = False
    for _, status in engine_of(app).store.list_batches():
        looked_at += 1
        if wanted not in (None, status.state) or not _fits(status, text, tag):
            continue
        if is_more := listed == limit:
            break
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
    figures = f"{int(status.progress * 100)}% {ended:,}/{status.total:,}"
    begun = f"{status.created_at.astimezone():%Y-%m-%d %H:%M}"
    return f"{status.bid} {judge(status).sign} {status.state} {figures} {begun} {name_of(status)}{tags}"


def _fits(status: BatchStatus, text: str | None, tag: str | None) -> bool:
    if tag is not None and tag not in status.tags:
        return False
    return text is None or text.lower() in status.description.lower() or text in status.bid
