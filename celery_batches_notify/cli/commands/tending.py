"""Commands that tend batches and callbacks: test-notify, sweep, doctor, reconcile, redeliver, metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from celery_batches_notify.cli.group import command, run
from celery_batches_notify.cli.parameters import Bid, Span

_bid = click.argument("bid", required=False, type=Bid())


@command("test-notify")
@click.argument("channel")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
def test_notify(ctx: click.Context, **options: Any) -> None:
    """Send a sample through CHANNEL, a notifier or profile, and print its receiver's answer.

    OPTIONS override the configured ones, as with `on()`: `--to me@example.com`, or
    `--via_options '{"address": "localhost"}'` for other values than texts.
    """
    from celery_batches_notify.cli.notify import send_sample

    run(ctx, lambda app, out: send_sample(app, out, **options))


@command("sweep", dashes=False)
def sweep(ctx: click.Context) -> None:
    """Sweep once, as a worker's sweeper does every few seconds, unless one is sweeping: for cron."""
    from celery_batches_notify.cli.sweep import sweep_once

    run(ctx, sweep_once)


@command("doctor")
@_bid
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="Members listed one by one."
)
def doctor(ctx: click.Context, **options: Any) -> None:
    """Find the members that the batch BID waits for, and say how to fix what is wrong.

    Without BID, check the surroundings, and name the live batches that do not move. Exits with 1 if
    something needs your hands.
    """
    from celery_batches_notify.cli.doctor import examine

    run(ctx, lambda app, out: examine(app, out, **options))


@command("reconcile")
@_bid
@click.option(
    "--vanished",
    type=click.Choice(["leave", "dead", "resend"]),
    default="leave",
    show_default=True,
    help="How to treat members that no queue, worker or result backend knows any more.",
)
def reconcile(ctx: click.Context, **options: Any) -> None:
    """Repair the batch BID, or all live ones, from the result backend and the workers."""
    from celery_batches_notify.cli.reconcile import repair

    run(ctx, lambda app, out: repair(app, out, **options))


@command("redeliver")
@_bid
@click.option("--event", help="Only callbacks of this event, such as complete.")
@click.option("--number", type=int, help="Only this one, from 0, delivered or not; with BID and --event.")
@click.option("--channel", help="Only this notifier, profile (webhook:billing) or task.")
@click.option(
    "--since", type=Span(), help="Of those given up, only the ones given up within 90s, 30m, 2h or 1d."
)
@click.option("--all", "ended", is_flag=True, help="Delivered and skipped ones, too; with BID.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Stop after so many.")
def redeliver(ctx: click.Context, **options: Any) -> None:
    """Send callbacks again that were given up or are stuck: of the batch BID, or of all that are kept.

    Those that wait for their next attempt, or for their receiver, go at once. They keep their ids.
    """
    from celery_batches_notify.cli.redeliver import send_again

    run(ctx, lambda app, out: send_again(app, out, **options))


@command("metrics", dashes=False)
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Write to this file in one step, for node_exporter's textfile collector.",
)
def metrics(ctx: click.Context, **options: Any) -> None:
    """Print the metrics of all batches in Prometheus' text format, as the page's /metrics does."""
    from celery_batches_notify.cli.metrics import show_metrics

    run(ctx, lambda app, out: show_metrics(app, out, **options))
