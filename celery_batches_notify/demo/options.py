"""The demo's command line, parsed and checked."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from celery_batches_notify.demo.modules import find_modules, standard_library

POOLS = ("prefork", "threads", "gevent", "solo")
PROCESSES_AT_MOST = 8
CONCURRENCY_AT_MOST = 64


def read_options(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Parse the command line; exit with code 2 and a message if it is wrong."""
    parser = argparse.ArgumentParser(
        prog="celery-batches-demo",
        description="Run a batch of real work on a real Celery worker, watch it live, and see its mail and "
        "webhooks arrive. Everything runs on this machine and is gone at the end.",
    )
    add = parser.add_argument
    add("--files", type=_count, metavar="N", help="measure N modules, spread over all of them")
    add(
        "--path",
        type=_directory,
        metavar="DIR",
        default=standard_library(),
        help="measure your own modules, not the standard library's",
    )
    add("--pool", choices=POOLS, default="prefork", help="the worker's pool (%(default)s)")
    add(
        "--concurrency",
        type=_concurrency,
        metavar="N",
        default=min(os.cpu_count() or 2, PROCESSES_AT_MOST),
        help="tasks at once (%(default)s)",
    )
    add("--redis", type=_redis_url, metavar="URL", help="use this Redis or Valkey, not an embedded one")
    add("--web", action="store_true", help="serve the status page, and stay until Ctrl-C")
    return parser.parse_args(argv)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a whole number from 1 on, got {text!r}")
    return int(text)


def _concurrency(text: str) -> int:
    if (number := _count(text)) > CONCURRENCY_AT_MOST:
        raise argparse.ArgumentTypeError(f"must be at most {CONCURRENCY_AT_MOST}, got {text!r}")
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
        raise argparse.ArgumentTypeError("must be a URL such as redis://localhost:6379/0")
    return text
