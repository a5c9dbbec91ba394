"""What tests of a store that is away look at: the disk, the tokens, and batches with one callback."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from celery import Celery

from celery_batches_notify import Batch


def spooled(spool: Path) -> int:
    """How many outcomes the disk holds."""
    while True:
        with suppress(FileNotFoundError):  # a replay took or ended a file meanwhile
            files = [path.read_bytes() for path in spool.glob("*/*") if path.name != "lock"]
            return sum(bool(line) for file in files for line in file.splitlines())


def new_batch(app: Celery) -> Batch:
    return Batch(app=app).on("success", app.signature("proj.silent", ("told",), immutable=True))


def add_members(batch: Batch, count: int, task: str, *args: object) -> Batch:
    with batch:
        for _ in range(count):
            batch.app.tasks[f"proj.{task}"].delay(*args)
    return batch
