"""Printing the tokens of batches as they are sent."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from celery import Celery

from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode
from celery_batches_notify.cli.output import Output, write
from celery_batches_notify.engine import Engine
from celery_batches_notify.store.tokens import hear_tokens

READ_SECONDS = 1.0


def stream_tokens(app: Celery, out: Output, *, bids: Sequence[str]) -> int:
    """Print each token until the batches have ended; return the exit code.

    Raises:
        NoSuchBatch: One of them is not there.
        StoreUnavailable: The store is away.
    """
    engine = engine_of(app)
    bids = tuple(dict.fromkeys(bids))
    raw = len(bids) == 1 and not out.as_json
    ended = False
    for heard in hear_tokens(engine.store, bids, READ_SECONDS):
        if heard is None:
            if ended:  # safety: last-tokens
                break
            ended = bool(bids) and _have_ended(engine, bids)
        elif raw:
            write(sys.stdout, heard[1])
        else:
            bid, token = heard
            out.say(f"{bid} {token}", bid=bid, token=token)
    if raw:
        write(sys.stdout, "\n")
    return ExitCode.DONE


def _have_ended(engine: Engine, bids: Sequence[str]) -> bool:
    """Return whether all have ended: then only tokens can arrive that were sent before this was asked."""
    answers = engine.store.read_many(bids).values()
    for answer in answers:
        if isinstance(answer, Exception):
            raise answer
    return all(not isinstance(answer, Exception) and answer.is_over for answer in answers)
