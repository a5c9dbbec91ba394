"""The demo's command: set up, run both batches, and say how it went."""

from __future__ import annotations

import argparse
import io
import os
import platform
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import nullcontext

from celery import __version__ as celery_version
from kombu.utils.url import maybe_sanitize_url

from celery_batches_notify import BatchesError
from celery_batches_notify.demo.display import Display
from celery_batches_notify.demo.environment import Environment, forget_other_settings, set_up
from celery_batches_notify.demo.modules import find_modules, standard_library
from celery_batches_notify.demo.options import read_options
from celery_batches_notify.demo.page import serve_page, wait_for_interrupt
from celery_batches_notify.demo.scenario import count_bytes, measure_modules
from celery_batches_notify.testing.signals import Interrupted, interruptible

FAILED, SIGNALLED = 1, 128


def run(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code: 0, or 1 if something it promises did not happen."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    display = Display(sys.stdout)
    try:
        with interruptible() as ignore_signals:
            options = read_options(argv)
            forget_other_settings()
            return play(display, options, ignore_signals)
    except Interrupted as exc:
        name = signal.Signals(exc.signum).name
        display.say(f"\nInterrupted ({name}): worker and servers are stopped, nothing is left behind.")
        return SIGNALLED + exc.signum
    except BrokenPipeError:  # nobody reads our output any more; Python's exit would complain again
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED


def play(display: Display, options: argparse.Namespace, ignore_signals: Callable[[], None]) -> int:
    """Run the whole demo; call `ignore_signals` before everything is removed."""
    title = display.paint("celery-batches-notify: the demo", "bold")
    display.say(f"{title} (Python {platform.python_version()}, Celery {celery_version})")
    try:
        with set_up(options.redis, options.pool, options.concurrency) as here:
            display.lap("setting up")
            try:
                with serve_page(here.app) if options.web else nullcontext() as url:
                    if url:
                        display.say(f"  status page       {url}")
                    measured, failed = perform(display, options, here)
                    if url:
                        display.say(f"\nThe page stays at {url} until you press Ctrl-C.")
                        wait_for_interrupt()
            except BatchesError:
                display.section("The end of the worker's log", here.read_log_end())
                raise
            finally:
                ignore_signals()
    except BatchesError as exc:
        display.say(f"\n{display.paint('The demo failed', 'red')} after {display.elapsed:.1f} s: {exc}")
        return FAILED
    display.lap("tidying up")
    display.show_laps()
    not_read = f"{failed:,} could not be read or parsed" if failed else "all of them could be read and parsed"
    webhooks = "webhooks" if failed else "webhook"
    display.say(
        f"\n{display.paint('The demo succeeded:', 'green')} {measured:,} modules measured, {not_read}, "
        f"mail and {webhooks} arrived, {display.elapsed:.1f} s."
    )
    return 0


def perform(display: Display, options: argparse.Namespace, here: Environment) -> tuple[int, int]:
    """Run the batches; return how many modules were measured and how many failed."""
    modules = find_modules(options.path, options.files)
    server = "your server" if options.redis else "embedded Valkey"
    url = maybe_sanitize_url(here.run.redis_url)
    display.say(f"  broker and store  {server}, {url}; no result backend")
    display.say(f"  worker            celery worker, pool {options.pool}, {options.concurrency} at once")
    display.say(f"  mail, webhooks    caught at 127.0.0.1:{here.run.smtp_port} and {here.run.webhook_url}")
    display.say(f"  input             {len(modules):,} modules in {options.path}")
    is_own = options.path != standard_library()
    source = options.path.name if is_own else f"Python {platform.python_version()}"
    failed = measure_modules(display, here, modules, source)
    if failed:
        count_bytes(display, here, failed)
    return len(modules) - len(failed), len(failed)
