"""Sending callbacks again, of one batch or of many, and saying how many."""

from __future__ import annotations

from datetime import timedelta

from celery import Celery

from celery_batches_notify.audit import note_action
from celery_batches_notify.checks import check_bid, check_event
from celery_batches_notify.cli.change import find_user
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.output import Output
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import InvalidCallback
from celery_batches_notify.redelivery import Wanted, redeliver_event, redeliver_many, redeliver_one
from celery_batches_notify.text import counted

PROGRESS_EVERY = 100


def send_again(
    app: Celery,
    out: Output,
    *,
    bid: str | None,
    event: str | None,
    number: int | None,
    channel: str | None,
    since: timedelta | None,
    ended: bool,
    limit: int,
) -> int:
    """Send callbacks again that were given up or are stuck, and print how many; return the exit code.

    Raises:
        BatchesError: An option is wrong, the batch does not exist, or the store is away.
    """
    engine = engine_of(app)
    wanted = Wanted(
        channel=_check_channel(engine, channel),
        event=check_event(event) if event is not None else None,
        since=since,
    )
    if number is not None and (bid is None or wanted.event is None or channel or since):
        raise InvalidCallback("--number names one callback: give it with a BID and --event, and nothing else")
    if ended and bid is None:
        raise InvalidCallback("--all sends what was delivered, too: name the batch with its BID")
    if number is not None and wanted.event is not None:
        sent = redeliver_event(engine, check_bid(bid), wanted.event, n=number)
    elif bid is not None:
        sent = redeliver_one(engine, check_bid(bid), wanted, ended=ended)
    elif wanted == Wanted():
        raise InvalidCallback("say what to send again: a BID, --channel, --event or --since")
    else:
        return _send_many(engine, wanted, limit, out)
    fields = {"event": event or "", "n": "" if number is None else str(number), "channel": channel or ""}
    given = {name: value for name, value in fields.items() if value}
    note_action(engine, check_bid(bid), "redeliver", find_user(), sent, given)
    return out.end(f"{bid}: {counted(sent, 'callback')} sent again", 0, bid=bid, sent=sent)


def _check_channel(engine: Engine, channel: str | None) -> str | None:
    """Return a channel if a callback can have it; raise `InvalidCallback` with a suggestion otherwise."""
    if channel is None or channel in engine.app.tasks or channel in engine.settings.callback_tasks:
        return channel
    return engine.registry.name_of(channel)


def _send_many(engine: Engine, wanted: Wanted, limit: int, out: Output) -> int:
    sent, batches, failed, said = 0, 0, 0, 0
    for done in redeliver_many(engine, wanted):
        if done.why:
            failed += 1
            out.say(f"{done.bid}: left out: {done.why}", bid=done.bid, error=done.why)
        sent, batches = sent + done.sent, batches + bool(done.sent)
        if sent - said >= PROGRESS_EVERY:
            said = sent
            out.say(f"{_count(sent, batches)} sent again so far", sent=sent, batches=batches)
        if sent >= limit:
            out.say(f"stopped at the limit of {limit:,}: run it again for the rest", limit=limit)
            break
    words = f"{_count(sent, batches)} sent again"
    return out.end(words, 1 if failed else 0, sent=sent, batches=batches, failed=failed)


def _count(sent: int, batches: int) -> str:
    return f"{counted(sent, 'callback')} of {counted(batches, 'batch', 'batches')}"
