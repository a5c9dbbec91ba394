"""Commands that show batches: list, show, watch, wait, stream, web."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from celery_batches_notify.cli.group import command, run
from celery_batches_notify.cli.parameters import Bid, Span

_bids = click.argument("bids", nargs=-1, type=Bid(), metavar="[BID]...")


def _watching(function: Callable[..., None]) -> Callable[..., None]:
    """Declare the arguments and options that `watch` and `wait` share."""
    for option in (
        click.option("--timeout", type=Span(), help="Give up after 90s, 30m, 2h or 1d."),
        click.option(
            "--until",
            type=click.Choice(["complete", "finish", "success"]),
            default="finish",
            show_default=True,
            help="The event to wait for.",
        ),
        click.option("--tag", help="All batches with this tag that have not finished."),
        _bids,
    ):
        function = option(function)
    return function


@command("list", dashes=False)
@click.argument("text", required=False)
@click.option("--state", help="Only batches in this state, such as running, stalled, dead or success.")
@click.option("--tag", help="Only batches with this tag.")
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, help="Stop after so many.")
def list_(ctx: click.Context, **options: Any) -> None:
    """List the batches that are kept, newest first; with TEXT those whose description or id holds it."""
    from celery_batches_notify.cli.listing import list_batches

    run(ctx, lambda app, out: list_batches(app, out, **options))


@command("show")
@click.argument("bid", type=Bid())
@click.option("--failures", is_flag=True, help="List the failures that are kept, one by one.")
@click.option("--deliveries", is_flag=True, help="List the last attempts to deliver callbacks.")
@click.option("--family", is_flag=True, help="List the other batches of its parent as well.")
@click.option("--actions", is_flag=True, help="List what was done to it by hand, the last first.")
@click.option(
    "--members",
    type=click.Choice(["waiting", "failing", "dead", "succeeded"]),
    help="List the members in this state.",
)
def show(ctx: click.Context, **options: Any) -> None:
    """Show how the batch BID goes, its failures, and how far its callbacks are."""
    from celery_batches_notify.cli.show import show_batch

    run(ctx, lambda app, out: show_batch(app, out, **options))


@command("watch")
@_watching
@click.option(
    "--progress",
    type=click.Choice(["auto", "tty", "plain", "json", "quiet"]),
    default="auto",
    show_default=True,
    help="A bar, plain lines, JSON lines, or only the last line.",
)
def watch(ctx: click.Context, **options: Any) -> None:
    """Show how batches move until an event, and end with its exit code.

    0: the event came, and for `finish` the batch succeeded. 1: it ended otherwise. 3: the time was up.
    4: the batch does not exist (any more). 69: the store was away. 130: Ctrl-C; the batch goes on.
    """
    from celery_batches_notify.cli.watch import watch_batches

    run(ctx, lambda app, out: watch_batches(app, out, **options))


@command("wait")
@_watching
def wait(ctx: click.Context, **options: Any) -> None:
    """Wait for an event of batches and print one line at the end; the exit codes are those of `watch`."""
    from celery_batches_notify.cli.watch import watch_batches

    run(ctx, lambda app, out: watch_batches(app, out, progress="quiet", **options))


@command("stream")
@_bids
def stream(ctx: click.Context, **options: Any) -> None:
    """Print the tokens of a batch as they are sent: + succeeded, - failed, ! complete, $ success.

    It ends with the batch. Of several batches, or of all if you name none, each token has a line, with its
    bid; of all it ends with Ctrl-C.
    """
    from celery_batches_notify.cli.stream import stream_tokens

    run(ctx, lambda app, out: stream_tokens(app, out, **options))


@command("web", dashes=False)
@click.option("--host", default="127.0.0.1", show_default=True, help="The address to listen at.")
@click.option("--port", type=click.IntRange(0, 65535), default=5556, show_default=True, help="The port.")
@click.option(
    "--auth",
    metavar="USER:PASSWORD",
    envvar="BATCH_WEB_AUTH",
    help="Ask for this name and password; BATCH_WEB_AUTH in the environment says the same unseen.",
)
@click.option("--actions", is_flag=True, help="Let whoever sees the page act on batches.")
@click.option("--behind-proxy", is_flag=True, help="Believe X-Forwarded-Host: your proxy sets it.")
def web(ctx: click.Context, **options: Any) -> None:
    """Serve the status page. Any address but 127.0.0.1 needs --auth.

    It needs the extra `web`.
    """
    from celery_batches_notify.cli.web import serve_page

    run(ctx, lambda app, out: serve_page(app, out, **options))
