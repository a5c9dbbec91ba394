"""The demo's command: sets the stage, lets it perform, and says how it went."""

from __future__ import annotations

import io
import os
import platform
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery import __version__ as celery_version
from kombu.utils.url import maybe_sanitize_url

from celery_batches_notify import BatchesError
from celery_batches_notify.demo import report
from celery_batches_notify.demo.console import Console
from celery_batches_notify.demo.display import Bar
from celery_batches_notify.demo.environment import Stage, set_stage
from celery_batches_notify.demo.measuring import find_modules, has_broken_modules, write_broken_modules
from celery_batches_notify.demo.options import Options, read_options
from celery_batches_notify.demo.scenario import (
    Counted,
    Measured,
    Show,
    count_bytes,
    describe_callbacks,
    measure_modules,
)
from celery_batches_notify.demo.surroundings import forget_other_settings
from celery_batches_notify.testing.signals import Interrupted, interruptible

FAILED, SIGNALLED = 1, 128


def run(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code: 0, or 1 if something it promises did not happen."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    console = Console(sys.stdout)
    try:
        with interruptible() as go_deaf:
            options = read_options(argv)
            forget_other_settings()
            return play(console, options, go_deaf)
    except Interrupted as exc:
        name = signal.Signals(exc.signum).name
        console.say(f"\nInterrupted ({name}): worker and servers are stopped, nothing is left behind.")
        return SIGNALLED + exc.signum
    except BrokenPipeError:  # who reads our output has had enough, and is not told so a second time at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def play(console: Console, options: Options, go_deaf: Callable[[], None]) -> int:
    """Do all of it; `go_deaf` is called when only the tidying up is left."""
    console.say(
        console.paint("celery-batches-notify: the demo", "bold")
        + f" (Python {platform.python_version()}, Celery {celery_version})"
    )
    try:
        with set_stage(
            redis_url=options.redis_url, pool=options.pool, concurrency=options.concurrency
        ) as stage:
            console.lap("setting up")
            try:
                measured = perform(console, options, stage)
            except BatchesError:
                console.section("The end of the worker's log", stage.read_log_end())
                raise
            finally:
                go_deaf()
    except BatchesError as exc:
        console.say(f"\n{console.paint('The demo failed', 'red')} after {console.elapsed:.1f} s: {exc}")
        return FAILED
    console.lap("tidying up")
    conclude(console, measured)
    return 0


def perform(console: Console, options: Options, stage: Stage) -> Measured:
    """Run the batches and report on them."""
    modules = find_modules(options.root, options.files)
    introduce(console, options, stage, len(modules))
    if options.is_standard_library and not has_broken_modules(options.root):
        modules += (own := write_broken_modules(Path(stage.here.directory)))
        console.say(
            f"                    and {len(own)} broken ones of our own: this Python comes without its tests"
        )
    source = f"Python {platform.python_version()}" if options.is_standard_library else options.root.name
    console.section("First batch: one task per module", ())
    with bar(console) as show:
        measured = measure_modules(
            stage, modules, f"Measure {len(modules):,} modules of {source}", show, console.lap
        )
    tell(console, options, measured)
    if measured.unread:
        unread = sorted(measured.unread)
        console.section(f"Second batch: count the bytes of the {len(unread):,} that failed", ())
        with bar(console) as show:
            counted = count_bytes(stage, unread, f"Count the bytes of {len(unread):,} modules", show)
        tell_success(console, counted)
        console.lap("second batch")
    return measured


def introduce(console: Console, options: Options, stage: Stage, modules: int) -> None:
    """Say what is about to run where."""
    url = maybe_sanitize_url(stage.here.redis_url)
    server = f"{'your server' if options.redis_url else 'embedded Valkey'}, {url}"
    console.say(f"  broker and store  {server}; no result backend")
    console.say(f"  worker            celery worker, pool {options.pool}, {options.concurrency} at once")
    console.say(f"  mail, webhooks    caught at 127.0.0.1:{stage.mail.port} and {stage.here.webhook_url}")
    console.say(f"  input             {modules:,} modules in {options.root}")


@contextmanager
def bar(console: Console) -> Iterator[Show]:
    """Show a progress bar; the first reading comes once the batch is sent."""
    one = Bar(console)
    if console.is_live:
        console.write("  sending …")
    try:
        yield one.show
    finally:
        one.end()


def tell(console: Console, options: Options, measured: Measured) -> None:
    """Report on the first batch."""
    status, root = measured.status, options.root
    console.section("Its status", report.describe_status(status, describe_callbacks(status)))
    if measured.unread:
        console.section("What failed, for real", report.describe_unread(measured.unread, root))
    console.section("What its callback task added up", report.describe_sum(measured.total, root))
    console.section("The mail that arrived", report.describe_mail(measured.mail))
    console.section("The webhook that arrived, its signature checked", report.describe_hook(measured.hook))


def tell_success(console: Console, counted: Counted) -> None:
    """Report on the second batch, in short."""
    status = counted.status
    console.say(f"  state {status.state}: {status.succeeded:,} of {status.total:,} succeeded")
    console.say(f"  and its webhook arrived: event success, webhook-id {counted.hook.headers['webhook-id']}")


def conclude(console: Console, measured: Measured) -> None:
    """Say in the last lines what happened, and how long it took."""
    console.section("Where the time went", [report.describe_laps(console.laps)])
    failed = len(measured.unread)
    not_read = f"{failed:,} could not be read or parsed" if failed else "all of them could be read and parsed"
    console.say()
    console.say(
        console.paint("The demo succeeded:", "green")
        + f" {measured.total.modules:,} modules measured, {not_read}, mail and "
        + f"{'webhooks' if failed else 'webhook'} arrived, {console.elapsed:.1f} s."
    )
