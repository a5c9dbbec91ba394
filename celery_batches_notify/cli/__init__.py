"""`celery -A proj batch …`: every command parses, makes one call, and prints. Light to import."""

from __future__ import annotations

import click
from celery.bin.base import CeleryCommand, handle_preload_options


@click.group()
def batch() -> None:
    """Look after batches and their notifications."""


@batch.command(
    "test-notify",
    cls=CeleryCommand,
    context_settings={"ignore_unknown_options": True, "max_content_width": 100},
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
    from celery_batches_notify.cli.sample import send_sample  # noqa: PLC0415 - every celery command loads this
    from celery_batches_notify.cli.telling import tell, tell_error  # noqa: PLC0415

    try:
        answer = send_sample(ctx.obj.app, channel, options)
    except Exception as exc:
        raise click.ClickException(tell_error(exc)) from exc
    ctx.obj.echo(tell(answer))
