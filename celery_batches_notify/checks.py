"""Batch ids, events and states that users give, checked."""

from __future__ import annotations

import re

from celery_batches_notify.errors import InvalidBid, InvalidCallback, InvalidState
from celery_batches_notify.model import STATES, Event
from celery_batches_notify.spelling import did_you_mean

_BID = re.compile(r"[A-Za-z0-9_-]{10,64}")
_FAILED = "; for failures take 'death' (the first member failed for good) or 'finish' (all have ended)"
_ENDED = "; take 'finish' (all members have ended), or 'complete' (all have run at least once)"
_OTHER_WORDS = {
    **dict.fromkeys(("error", "fail", "failed", "failure", "failures"), _FAILED),
    **dict.fromkeys(("done", "end", "ended"), _ENDED),
}


def check_bid(bid: object) -> str:
    """Return `bid` if it is a well-formed batch id; raise `InvalidBid` otherwise."""
    if isinstance(bid, str) and _BID.fullmatch(bid):
        return bid
    raise InvalidBid(f"{str(bid)[:80]!r} is not a batch id (10 to 64 characters of A-Z a-z 0-9 _ -)")


def check_event(event: object) -> Event:
    """Return the event of this name; raise `InvalidCallback`, with a suggestion, if it does not exist."""
    if not isinstance(event, str):
        raise InvalidCallback(f"the event must be a string such as 'complete', got {type(event).__name__}")
    if event in list(Event):
        return Event(event)
    hint = _OTHER_WORDS.get(event.lower()) or did_you_mean(event, Event)
    raise InvalidCallback(f"there is no event {event!r}{hint}; the events are {', '.join(Event)}")


def check_state(state: object) -> str:
    """Return `state` if a batch can be in it; raise `InvalidState` with a suggestion otherwise."""
    if isinstance(state, str) and state in STATES:
        return state
    raise InvalidState(
        f"there is no state {state!r}{did_you_mean(state, STATES)}; the states are {', '.join(STATES)}"
    )
