"""The group `batch`: how its commands are declared, with what all share, and how each is run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

import click
from celery.bin.base import CeleryCommand, handle_preload_options

if TYPE_CHECKING:
    from celery import Celery

    from celery_batches_notify.cli.output import Output

    Run = Callable[[Celery, Output], int]

_CONTEXT = {"max_content_width": 100}
_AS_JSON = f"{__name__}.as_json"


class _Failure(click.ClickException):
    """Ends a command with one line and an exit code."""

    def __init__(self, message: str, code: int) -> None:
        super().__init__(message)
        self.exit_code = code  # type: ignore[misc]


@click.group()
def batch() -> None:
    """Look after batches and their notifications."""


def command(name: str, *, dashes: bool = True) -> Callable[[Callable[..., None]], click.Command]:
    """Declare a command of the group: a function of its click context and its options.

    Args:
        name: Its name.
        dashes: Whether an argument may begin with a dash, as a bid may.
    """

    def declare(function: Callable[..., None]) -> click.Command:
        as_json = click.option(
            "--json",
            is_flag=True,
            expose_value=False,
            callback=lambda ctx, _, value: ctx.meta.__setitem__(_AS_JSON, value),
            help='Print JSON, an object per line; the last has "final": true.',
        )
        wrapped = as_json(click.pass_context(handle_preload_options(function)))
        context = {**_CONTEXT, "ignore_unknown_options": dashes}
        return batch.command(name, cls=CeleryCommand, context_settings=context)(wrapped)

    return declare


def run(ctx: click.Context, do: Run) -> None:
    """Run a command; end with its exit code, or with one line that says why it failed."""
    from celery_batches_notify.cli.exit_codes import ExitCode, code_of  # noqa: PLC0415 - every celery command loads this
    from celery_batches_notify.cli.output import Output, error_line  # noqa: PLC0415

    out = Output(sys.stdout, as_json=ctx.meta.get(_AS_JSON, False))
    try:
        code = do(ctx.obj.app, out)
    except BrokenPipeError:
        raise  # click ends quietly
    except KeyboardInterrupt:
        code = ExitCode.INTERRUPTED
    except Exception as exc:
        failure = exc if isinstance(exc, click.ClickException) else _Failure(error_line(exc), code_of(exc))
        out.finish(failure.exit_code, error=failure.message)
        raise failure from exc
    out.finish(code)
    ctx.exit(code)
