"""Successors: the messages with which a running member's canvas goes on.

Celery publishes them while the member runs: the next link of its chain, its callbacks, a chord's body, the
parts of a canvas that replaces it. They are noted with the request, and the member's own report enrols them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.messages.canvas import (
    CALLS_PARTS,
    first_of_body,
    is_marked,
    passes_on,
    read_mark,
    unlocked_body,
)
from celery_batches_notify.messages.headers import read_header
from celery_batches_notify.messages.run import Run, Unsent, run_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """A message that is a late member, and how it came about.

    `replaced` is the running member where the message replaces it; `by_celery` says that Celery publishes it
    after the task's own code has run, so that nobody but us hears that it could not be sent.
    """

    member: Membership
    replaced: Membership | None = None
    by_celery: bool = False


def find(running: Any, member: Membership, name: str, message: Any) -> Successor | None:
    """Tell whether a message that the running member publishes goes on with its canvas."""
    request, headers = running.request, message.headers
    mark = read_mark(headers, request.id)
    if mark is not None and mark.get("bid") == member.bid:
        claim = read_header(mark, headers["id"])
        return Successor(member=claim, by_celery=True) if isinstance(claim, Membership) else None
    late = Membership(bid=member.bid, index=None, task_id=headers["id"], of=member.origin)
    body = unlocked_body(name, message)
    if _replaces(request, headers) or (body is not None and _replaces(request, body.get("options") or {})):
        return Successor(member=late, replaced=member)
    if name == running.name and (headers.get("retries") or 0) == (request.retries or 0) + 1:
        return Successor(member=late, replaced=member)  # a retry that was given an id of its own
    if body is not None and is_marked(body, request.id):
        return Successor(member=late, by_celery=True)
    # Such as `add_to_chord`, whose call, or the last part of it, reports to the member's own chord.
    if running.name in CALLS_PARTS or passes_on(message, request.id):  # safety: own-chord-member
        return Successor(member=late)
    return None


@contextmanager
def publishing(run: Run, name: str, successor: Successor) -> Iterator[None]:
    """Note that the running task has published a successor, or that Celery could not."""
    try:
        yield
    except Exception as exc:
        if successor.by_celery:  # else the task's own code gets the error
            run.successors[successor.member] = Unsent(member=successor.member, task=name, error=exc)
        raise
    run.successors[successor.member] = None
    run.is_replaced = run.is_replaced or successor.replaced is not None


def add_to(outcome: Outcome, request: Any) -> Outcome:
    """Add to an outcome the successors that its report enrols.

    A part of a chord's header that succeeds names the body, whichever part publishes that: of two deliveries
    of the last part that run at once, Celery lets only one publish it, and the other's report may come first.
    """
    run = run_of(request)
    if published := run.published:
        outcome = dataclasses.replace(outcome, successors=published)
    chord = request.chord
    if not chord or outcome.state != outcome.state.SUCCEEDED or run.is_replaced:
        return outcome
    if run.returned:
        return dataclasses.replace(outcome, body=first_of_body(chord, request.id))
    return dataclasses.replace(outcome, breaks_chord=True)


def _replaces(request: Any, sent_with: Any) -> bool:
    nesting = sent_with.get("replaced_task_nesting") or 0
    return bool(nesting == (request.replaced_task_nesting or 0) + 1)
