"""Commands that change a batch: cancel, retry, seal, delete."""

from __future__ import annotations

from typing import Any

import click

from celery_batches_notify.cli.group import command, run
from celery_batches_notify.cli.parameters import Bid

_bids = click.argument("bids", nargs=-1, required=True, type=Bid(), metavar="BID...")
_yes = click.option("--yes", is_flag=True, help="Do not ask; needed if there is no terminal to ask on.")


@command("cancel")
@_bids
@click.option("--terminate", is_flag=True, help="End running members, too, if the worker's pool can.")
@_yes
def cancel(ctx: click.Context, **options: Any) -> None:
    """Cancel batches and those below them: workers discard members as they arrive."""
    from celery_batches_notify.cli.change import cancel_batches

    run(ctx, lambda app, out: cancel_batches(app, out, **options))


@command("retry")
@_bids
@click.option("--group", metavar="KEY", help="Only failures of one kind, by the key that `show` names.")
def retry(ctx: click.Context, **options: Any) -> None:
    """Send the dead members of batches and of those below them again, under their ids."""
    from celery_batches_notify.cli.change import retry_batches

    run(ctx, lambda app, out: retry_batches(app, out, **options))


@command("seal")
@_bids
@_yes
def seal(ctx: click.Context, **options: Any) -> None:
    """Declare that batches have all their members: they take no more, and their events fire."""
    from celery_batches_notify.cli.change import seal_batches

    run(ctx, lambda app, out: seal_batches(app, out, **options))


@command("delete")
@_bids
@_yes
def delete(ctx: click.Context, **options: Any) -> None:
    """Remove the records of batches and of those below them; their tasks run on and count nowhere."""
    from celery_batches_notify.cli.change import delete_batches

    run(ctx, lambda app, out: delete_batches(app, out, **options))
