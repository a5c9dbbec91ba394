"""Sending callbacks again, of one batch or of many, and saying how many."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta

from celery import Celery

from celery_batches_notify.checks import check_bid, check_event
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import ConfigurationError, InvalidCallback
from celery_batches_notify.operations import redeliver_event
from celery_batches_notify.redelivery import Wanted, redeliver_many, redeliver_one
from celery_batches_notify.settings import read_duration

PROGRESS_EVERY = 100
_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")

Echo = Callable[[str], None]


def send_again(
    app: Celery,
    bid: str | None,
    *,
    event: str | None,
    number: int | None,
    channel: str | None,
    since: str | None,
    ended: bool,
    limit: int,
    echo: Echo,
) -> int:
    """Send again what was given up or is stuck, and print how much that is; return the exit code.

    Raises:
        BatchesError: An option is wrong, there is no such batch, or the store is away.
    """
    engine = engine_of(app)
    wanted = Wanted(
        channel=_check_channel(engine, channel),
        event=check_event(event) if event is not None else None,
        since=read_span(since) if since is not None else None,
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
        return _send_many(engine, wanted, limit, echo)
    echo(f"{bid}: {sent:,} callbacks sent again")
    return 0


def read_span(text: str) -> timedelta:
    """Read a span of time such as `90s`, `30m`, `2h` or `1d`; a bare number is seconds.

    Raises:
        InvalidCallback: It is none.
    """
    found = _SPAN.fullmatch(text.strip())
    try:
        if found is not None:
            return read_duration("--since", float(found[1]) * _UNITS[found[2] or "s"])
    except ConfigurationError as exc:
        raise InvalidCallback(str(exc)) from None
    raise InvalidCallback(f"--since must be a span of time such as 90s, 30m, 2h or 1d, got {text!r}")


def _check_channel(engine: Engine, channel: str | None) -> str | None:
    """Return a channel if a callback can have it; raise `InvalidCallback` with a suggestion otherwise."""
    if channel is None or channel in engine.app.tasks or channel in engine.settings.callback_tasks:
        return channel
    return engine.registry.name_of(channel)


def _send_many(engine: Engine, wanted: Wanted, limit: int, echo: Echo) -> int:
    sent, batches, failed, said = 0, 0, 0, 0
    for done in redeliver_many(engine, wanted):
        if done.why:
            failed += 1
            echo(f"{done.bid}: left out: {done.why}")
        sent, batches = sent + done.sent, batches + bool(done.sent)
        if sent - said >= PROGRESS_EVERY:
            said = sent
            echo(f"{sent:,} callbacks of {batches:,} batches sent again so far")
        if sent >= limit:
            echo(f"stopped at the limit of {limit:,}: run it again for the rest")
            break
    echo(f"{sent:,} callbacks of {batches:,} batches sent again")
    return 1 if failed else 0
