"""The parameter types for a batch and for a span of time. Light to import."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import click
from click.shell_completion import CompletionItem

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,3})?)([smhd]?)")


class Bid(click.ParamType):  # type: ignore[type-arg]
    """A batch's id; a shell offers those of the newest batches."""

    name = "bid"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return a well-formed bid; any other word that begins with a dash was meant as an option."""
        from celery_batches_notify.checks import check_bid  # noqa: PLC0415 - every celery command loads this
        from celery_batches_notify.errors import InvalidBid  # noqa: PLC0415

        try:
            return check_bid(value)
        except InvalidBid as exc:
            if str(value).startswith("-"):
                options = [name for each in (ctx.command.params if ctx else ()) for name in each.opts]
                raise click.NoSuchOption(repr(value)[1:-1], possibilities=options, ctx=ctx) from None
            self.fail(str(exc), param, ctx)

    def shell_complete(
        self, ctx: click.Context, _param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Offer the bids of the newest batches."""
        from celery_batches_notify.cli.completion import complete_bid  # noqa: PLC0415

        found = complete_bid(ctx.find_root().params.get("app"), incomplete)
        return [CompletionItem(bid, help=words) for bid, words in found]


class Span(click.ParamType):  # type: ignore[type-arg]
    """A span of time such as `90s`, `30m`, `2h` or `1d`; a bare number is seconds."""

    name = "span"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> timedelta:
        """Return the span."""
        from celery_batches_notify.errors import ConfigurationError  # noqa: PLC0415
        from celery_batches_notify.settings import read_duration  # noqa: PLC0415

        found = _SPAN.fullmatch(value.strip())
        if found is None:
            self.fail(f"must be a span of time such as 90s, 30m, 2h or 1d, got {value!r}", param, ctx)
        try:
            return read_duration("it", float(found[1]) * _UNITS[found[2] or "s"])
        except ConfigurationError as exc:
            self.fail(str(exc), param, ctx)
