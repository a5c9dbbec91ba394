"""The demo's command line, read and checked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from celery_batches_notify.demo.measuring import find_modules, standard_library

POOLS = ("prefork", "threads", "gevent", "solo")
PROCESSES_AT_MOST = 8
CONCURRENCY_AT_MOST = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """How to run the demo.

    Attributes:
        root: The directory whose modules are measured.
        files: How many of them at most; None for all.
        pool: How the worker runs tasks.
        concurrency: How many at once.
        redis_url: A server of the user's, or None for an embedded one.
    """

    root: Path
    files: int | None
    pool: str
    concurrency: int
    redis_url: str | None

    @property
    def is_standard_library(self) -> bool:
        """Whether the modules are Python's own."""
        return self.root == standard_library()


def read_options(argv: Sequence[str] | None = None) -> Options:
    """Read the command line; leave with exit code 2 and a message where it is wrong."""
    parser = argparse.ArgumentParser(
        prog="celery-batches-demo",
        description="Run a batch of real work on a real Celery worker, watch it live, and see its mail and "
        "webhooks arrive. Everything runs on this machine and is gone at the end.",
    )
    parser.add_argument(
        "--files", type=_count, metavar="N", help="measure N modules, spread over all of them"
    )
    parser.add_argument(
        "--path", type=_directory, metavar="DIR", help="measure your own modules, not the standard library's"
    )
    parser.add_argument("--pool", choices=POOLS, default="prefork", help="the worker's pool (%(default)s)")
    parser.add_argument(
        "--concurrency",
        type=_concurrency,
        metavar="N",
        default=min(os.cpu_count() or 2, PROCESSES_AT_MOST),
        help="tasks at once (%(default)s)",
    )
    parser.add_argument(
        "--redis", type=_redis_url, metavar="URL", help="use this Redis or Valkey, not an embedded one"
    )
    given = parser.parse_args(argv)
    return Options(
        root=given.path or standard_library(),
        files=given.files,
        pool=given.pool,
        concurrency=given.concurrency,
        redis_url=given.redis,
    )


def _count(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"give a whole number from 1 on, not {text!r}")
    return number


def _concurrency(text: str) -> int:
    if (number := _count(text)) > CONCURRENCY_AT_MOST:
        raise argparse.ArgumentTypeError(f"give a number up to {CONCURRENCY_AT_MOST}, not {text!r}")
    return number


def _directory(text: str) -> Path:
    path = Path(text).expanduser().resolve()
    if not path.is_dir():
        raise argparse.ArgumentTypeError(f"there is no directory {text!r}")
    if not find_modules(path):
        raise argparse.ArgumentTypeError(f"there is no *.py file in {text!r}")
    return path


def _redis_url(text: str) -> str:
    if urlsplit(text).scheme not in ("redis", "rediss") or not urlsplit(text).hostname:
        raise argparse.ArgumentTypeError("give a URL such as redis://localhost:6379/0")
    return text
