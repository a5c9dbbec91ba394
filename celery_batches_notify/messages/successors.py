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

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.messages.canvas import (
    CALLS_PARTS,
    first_of_body,
    is_tagged,
    passes_on,
    read_tag,
    unlocked_body,
)
from celery_batches_notify.messages.headers import has_header, read_header
from celery_batches_notify.messages.run import Run, Unsent, run_of


@dataclass(frozen=True, slots=True, kw_only=True)
class Successor:
    """A message with which a member's canvas goes on.

    Attributes:
        member: Which member its task will be.
        replaced: The running member, if the message replaces it.
        by_celery: Celery publishes it after the task's own code has run, so nobody but this package learns
            that the broker refused it.
    """

    member: Membership
    replaced: Membership | None = None
    by_celery: bool = False


def find(running: Any, member: Membership, name: str, message: Any) -> Successor | None:
    """Return the successor that the running member publishes with this message; None for any other call."""
    request, headers = running.request, message.headers
    tag = read_tag(headers, request.id)
    if tag is not None and tag.get("bid") == member.bid:
        identity = read_header(tag, headers["id"])
        return Successor(member=identity, by_celery=True) if isinstance(identity, Membership) else None
    untagged = Membership(bid=member.bid, index=None, task_id=headers["id"], of=member.origin)
    body = unlocked_body(name, message)
    if _replaces(request, headers) or (body is not None and _replaces(request, body.get("options") or {})):
        return Successor(member=untagged, replaced=member)
    if _retries(running, name, message):
        return Successor(member=untagged, replaced=member)  # a retry under an id of its own
    if body is not None and is_tagged(body, request.id):
        return Successor(member=untagged, by_celery=True)
    # `add_to_chord` publishes one: its call, or the last part of its call, belongs to the member's own chord.
    if running.name in CALLS_PARTS or passes_on(message, request.id):  # safety: own-chord-member
        return Successor(member=untagged)
    return None


def note_retry(running: Any, name: str, message: Any) -> None:
    """Note that a callback is retried under another id: from then on nobody knows how it ends."""
    if has_header(running.request) and _retries(running, name, message):
        run_of(running.request).is_replaced = True  # safety: callbacks-other-id


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
    if run.successors and (published := run.published):
        outcome = dataclasses.replace(outcome, successors=published)
    chord = request.chord
    if not chord or outcome.state != State.SUCCEEDED or run.is_replaced:
        return outcome
    if run.returned:
        return dataclasses.replace(outcome, body=first_of_body(chord, request.id))
    return dataclasses.replace(outcome, breaks_chord=True)


def _retries(running: Any, name: str, message: Any) -> bool:
    """Return whether a message is a retry of the running task under an id of its own."""
    retries = message.headers.get("retries") or 0
    return bool(name == running.name and retries == (running.request.retries or 0) + 1)


def _replaces(request: Any, sent_with: Any) -> bool:
    nesting = sent_with.get("replaced_task_nesting") or 0
    return bool(nesting == (request.replaced_task_nesting or 0) + 1)
