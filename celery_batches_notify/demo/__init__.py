"""The demo: real work on an embedded server and a real worker, followed live, with mail and webhooks."""

from __future__ import annotations

from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo and return its exit code."""
    try:
        from celery_batches_notify.demo.command import run  # noqa: PLC0415 - keeps this package light to import
    except KeyboardInterrupt:
        print("\nInterrupted (SIGINT) before anything was started.")
        return 130
    return run(argv)
