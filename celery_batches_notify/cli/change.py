"""Cancelling, retrying, sealing and deleting, once somebody has agreed."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
from celery import Celery

from celery_batches_notify.audit import note_action
from celery_batches_notify.bar import count_open
from celery_batches_notify.batch import Batch
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode, code_of
from celery_batches_notify.cli.output import Output, error_line, one_safe_line
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import (
    BatchesError,
    CorruptBatch,
    NoSuchBatch,
    SchemaTooNew,
    StoreUnavailable,
)
from celery_batches_notify.grouped_failures import retry_group
from celery_batches_notify.headline import headline
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.operations import cancel_batch, delete_batch
from celery_batches_notify.store.base import gone
from celery_batches_notify.text import counted

Changed = tuple[str, dict[str, Any]]  # the change, in words and as JSON


def cancel_batches(app: Celery, out: Output, *, bids: Sequence[str], terminate: bool, yes: bool) -> int:
    """Cancel batches; return the exit code."""
    engine = engine_of(app)

    def explain(status: BatchStatus) -> str:
        left = count_open(status)
        ends = ", and those that run are ended" if terminate else ""
        return f"{counted(left, 'member')} will not run{ends}"

    def cancel(bid: str) -> Changed:
        left = count_open(engine.store.read_status(bid))
        cancel_batch(engine, bid, terminate=terminate)
        note_action(engine, bid, "cancel", find_user(), left)
        return "cancelled", {"cancelled": True}

    _confirm(engine, bids, "Cancel", explain, yes=yes)
    return _for_each(out, bids, cancel)


def retry_batches(app: Celery, out: Output, *, bids: Sequence[str], group: str | None) -> int:
    """Retry batches, or only their failures of one kind; return the exit code."""
    engine = engine_of(app)

    def retry(bid: str) -> Changed:
        batch = Batch.get(bid, app=app)
        sent = batch.retry() if group is None else retry_group(engine, bid, group)
        note_action(engine, bid, "retry", find_user(), sent, {"group": group} if group else {})
        left = dict(batch.status().unsendable)
        words = [f"{count:,} cannot be ({reason})" for reason, count in left.items()]
        words.insert(0, f"{counted(sent, 'member')} sent again")
        return ", ".join(words), {"sent": sent, "unsendable": left}

    return _for_each(out, bids, retry)


def seal_batches(app: Celery, out: Output, *, bids: Sequence[str], yes: bool) -> int:
    """Seal batches; return the exit code."""
    engine = engine_of(app)

    def explain(status: BatchStatus) -> str:
        if status.sealed_at is not None:
            return "it is sealed already"
        return f"no member can be added to its {status.total:,}"

    def seal(bid: str) -> Changed:
        Batch.get(bid, app=app).seal()
        note_action(engine, bid, "seal", find_user(), 0)
        return "sealed", {"sealed": True}

    _confirm(engine, bids, "Seal", explain, yes=yes)
    return _for_each(out, bids, seal)


def delete_batches(app: Celery, out: Output, *, bids: Sequence[str], yes: bool) -> int:
    """Delete batches, those that cannot be read too; return the exit code."""
    engine = engine_of(app)

    def explain(status: BatchStatus) -> str:
        left = count_open(status)
        below = counted(status.children, "batch", "batches")
        children = f", {below} below it will go with it" if status.children else ""
        return f"{counted(left, 'member')} will run on and count nowhere{children}"

    def delete(bid: str) -> Changed:
        if not delete_batch(engine, bid):
            raise gone(bid)
        note_action(engine, bid, "delete", find_user(), 0)
        return "deleted", {"deleted": True}

    _confirm(engine, bids, "Delete", explain, yes=yes)
    return _for_each(out, bids, delete)


def find_user() -> str:
    """Return the name of the user who runs the command, or an empty text if the system has none."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container's user may have no name
        return ""


def _confirm(
    engine: Engine, bids: Sequence[str], verb: str, explain: Callable[[BatchStatus], str], *, yes: bool
) -> None:
    """Ask on a terminal, and go on only after a yes.

    Raises:
        UsageError: Standard input is not a terminal, and `--yes` is not given.
        ClickException: The user did not say yes.
        NoSuchBatch: The only batch is gone.
    """
    if yes:
        return
    if sys.stdin is None or not sys.stdin.isatty():  # safety: ask-or-yes
        raise click.UsageError(f"there is no terminal to ask on: {verb.lower()} without a question by --yes")
    for bid in bids:
        click.echo(one_safe_line(_explain(engine, bid, explain, alone=len(bids) == 1)), err=True)
    what = "it" if len(bids) == 1 else f"these {len(bids):,} batches"
    click.echo(f"{verb} {what}? [y/N] ", nl=False, err=True)
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise click.ClickException("nothing was changed")


def _explain(engine: Engine, bid: str, explain: Callable[[BatchStatus], str], *, alone: bool) -> str:
    try:
        status = engine.store.read_status(bid)
    except (NoSuchBatch, CorruptBatch, SchemaTooNew) as exc:
        if alone and isinstance(exc, NoSuchBatch):
            raise
        return str(exc)
    return f"{bid} {headline(status)}: {explain(status)}"


def _for_each(out: Output, bids: Sequence[str], change: Callable[[str], Changed]) -> int:
    """Change batches one by one, and print the result of each; stop if the store is away.

    If a batch cannot be changed, go on with the next; the exit code is that of the last error.
    """
    code: int = ExitCode.DONE
    for bid in dict.fromkeys(bids):
        try:
            words, fields = change(bid)
            out.say(f"{bid}: {words}", bid=bid, **fields)
        except BatchesError as exc:
            if len(bids) == 1 or isinstance(exc, StoreUnavailable):
                raise
            code = code_of(exc)
            out.say(f"{bid}: not changed: {exc}", bid=bid, error=error_line(exc), exit_code=int(code))
    return code
