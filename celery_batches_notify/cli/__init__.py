"""`celery -A proj batch …`: every command parses, makes one call, and prints. Light to import."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from celery.bin.base import CeleryCommand, handle_preload_options

_CONTEXT = {"max_content_width": 100}
_BID_CONTEXT = {**_CONTEXT, "ignore_unknown_options": True}  # a bid may begin with a dash


@click.group()
def batch() -> None:
    """Look after batches and their notifications."""


@batch.command(
    "test-notify",
    cls=CeleryCommand,
    context_settings={**_CONTEXT, "ignore_unknown_options": True},
)
@click.argument("channel")
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
@handle_preload_options
def test_notify(ctx: click.Context, channel: str, options: tuple[str, ...]) -> None:
    """Send a sample through CHANNEL, a notifier or profile, and print what its receiver said.

    OPTIONS override the configured ones, as with `on()`: `--to me@example.com`, or
    `--via_options '{"address": "localhost"}'` for what is not a text.
    """
    from celery_batches_notify.cli.notify import send_sample  # noqa: PLC0415 - every celery command loads this

    def send(echo: Callable[[str], None]) -> int:
        echo(send_sample(ctx.obj.app, channel, options))
        return 0

    _run(ctx, send)


@batch.command("sweep", cls=CeleryCommand, context_settings=_CONTEXT)
@click.pass_context
@handle_preload_options
def sweep(ctx: click.Context) -> None:
    """Do once what a worker's sweeper does every few seconds, unless one is at it: for cron."""
    from celery_batches_notify.cli.sweep import sweep_once  # noqa: PLC0415

    _run(ctx, lambda echo: sweep_once(ctx.obj.app, echo))


@batch.command("doctor", cls=CeleryCommand, context_settings=_BID_CONTEXT)
@click.argument("bid", required=False)
@click.option(
    "--limit", type=click.IntRange(0), default=20, show_default=True, help="Members listed one by one."
)
@click.pass_context
@handle_preload_options
def doctor(ctx: click.Context, bid: str | None, limit: int) -> None:
    """Say where the members are that the batch BID waits for, and what to do.

    Without BID, check the surroundings, and name the live batches that do not move. Exits with 1 where
    something needs your hands.
    """
    from celery_batches_notify.cli.doctor import examine  # noqa: PLC0415

    _run(ctx, lambda echo: examine(ctx.obj.app, bid, limit, echo))


@batch.command("reconcile", cls=CeleryCommand, context_settings=_BID_CONTEXT)
@click.argument("bid", required=False)
@click.option(
    "--vanished",
    type=click.Choice(["leave", "dead", "resend"]),
    default="leave",
    show_default=True,
    help="What becomes of members that no queue, worker or result backend knows any more.",
)
@click.pass_context
@handle_preload_options
def reconcile(ctx: click.Context, bid: str | None, vanished: str) -> None:
    """Repair the batch BID, or all live ones, from the result backend and the workers."""
    from celery_batches_notify.cli.reconcile import repair  # noqa: PLC0415

    _run(ctx, lambda echo: repair(ctx.obj.app, bid, vanished, echo))


@batch.command("redeliver", cls=CeleryCommand, context_settings=_BID_CONTEXT)
@click.argument("bid", required=False)
@click.option("--event", help="Only callbacks of this event, such as complete.")
@click.option("--number", type=int, help="Only this one, from 0, delivered or not; with BID and --event.")
@click.option("--channel", help="Only this notifier, profile (webhook:billing) or task.")
@click.option("--since", help="Of those given up, only what was so within this time: 90s, 30m, 2h, 1d.")
@click.option("--all", "ended", is_flag=True, help="What was delivered or skipped, too; with BID.")
@click.option("--limit", type=click.IntRange(1), default=1000, show_default=True, help="Stop after so many.")
@click.pass_context
@handle_preload_options
def redeliver(ctx: click.Context, bid: str | None, **options: Any) -> None:
    """Send callbacks again that were given up or are stuck: of the batch BID, or of all that are kept.

    Those that wait for their next attempt, or for their receiver, go at once. They keep their ids.
    """
    from celery_batches_notify.cli.redeliver import send_again  # noqa: PLC0415

    _run(ctx, lambda echo: send_again(ctx.obj.app, bid, **options, echo=echo))


def _run(ctx: click.Context, command: Callable[[Callable[[str], None]], int]) -> None:
    """Print what a command has to say, line by line, or in one line why it cannot do what it should."""
    from celery_batches_notify.cli.output import tell, tell_error  # noqa: PLC0415

    try:
        code = command(lambda line: ctx.obj.echo(tell(line)))
    except Exception as exc:
        raise click.ClickException(tell_error(exc)) from exc
    ctx.exit(code)
