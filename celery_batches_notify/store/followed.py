"""The batches that this process follows: when to read each, and which followers a reading reaches. No I/O."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, takewhile
from math import inf

from celery_batches_notify.errors import StoreUnavailable
from celery_batches_notify.store.followers import Answer, Follower
from celery_batches_notify.store.parsing import Reading

REREAD_SECONDS = 5.0
AWAY_SECONDS = 30.0
QUIET_SECONDS = 0.05  # many tokens at once give one reading
PAGE = 250  # batches that are read in one round trip
WAKES_PER_SECOND = 5000  # more would leave a process with thousands of followers no time for anything else


@dataclass(slots=True, kw_only=True)
class _Batch:
    """The followers of one batch, its last reading, and when a reading was tried and when it succeeded."""

    followers: set[Follower] = field(default_factory=set)
    last: Reading | None = None
    tried_at: float
    read_at: float

    def give(self, answer: Answer, now: float) -> list[Follower]:
        """Give an answer to the followers that have not seen it, and return these.

        A follower with a reading outlives a short absence of the store; one without gets the error.
        """
        self.tried_at = now
        if isinstance(answer, Reading):
            self.read_at = now
            self.last = answer = self.last if answer == self.last else answer
        # safety: away-follower
        survives = isinstance(answer, StoreUnavailable) and now < self.read_at + AWAY_SECONDS
        followers = [each for each in self.followers if not each.is_over]
        given = [each for each in followers if each.latest is not answer and not (survives and each.latest)]
        for follower in given:
            follower.latest = answer
        self.followers = {each for each in followers if not isinstance(each.latest, Exception)}
        return given


class Followed:
    """The followed batches, by bid, the longest unread ones first.

    A batch without a reading is read as soon as its subscription stands. The others are read when a token
    stirred them, and after `REREAD_SECONDS` in any case, but not more often than the pace allows.
    """

    def __init__(self) -> None:
        self._batches: dict[str, _Batch] = {}
        self._unread: set[str] = set()
        self._fresh: dict[str, None] = {}
        self._stirred: dict[str, None] = {}
        self._paced_until = -inf
        self._new: set[str] = set()
        self._left: set[str] = set()

    def __len__(self) -> int:
        return len(self._batches)

    @property
    def bids(self) -> Collection[str]:
        """The ids of all followed batches."""
        return self._batches.keys()

    def add(self, follower: Follower, now: float) -> None:
        """Add a follower."""
        bid = follower.bid
        if bid not in self._batches:
            self._batches[bid] = _Batch(tried_at=now, read_at=now)
            self._new.add(bid)
            self._unread.add(bid)
        self._batches[bid].followers.add(follower)
        self.stir([bid] if bid not in self._unread else [])  # safety: subscribed-first

    def remove(self, follower: Follower) -> None:
        """Remove a follower, if it has not left already."""
        if (batch := self._batches.get(follower.bid)) is not None:
            batch.followers.discard(follower)
            if not batch.followers:
                self._forget(follower.bid)

    def take_changes(self) -> tuple[set[str], set[str]]:
        """Return which batches came and which left since the last call; one that left and came is in both."""
        changes = self._new, self._left
        self._new, self._left = set(), set()
        return changes

    def stir(self, bids: Iterable[str]) -> None:
        """Record that these batches have moved, or that their tokens are heard from now on."""
        for bid in bids:
            if bid in self._unread:
                self._fresh[bid] = None
            elif bid in self._batches:
                self._stirred[bid] = None

    def stir_unread(self) -> None:
        """Let the unread batches be read without a subscription, which could not be made."""
        self.stir(self._unread)

    @property
    def is_paced(self) -> bool:
        """Whether tokens that arrive now would only be read after a pause."""
        return bool(self._stirred) and not self._unread

    @property
    def next_at(self) -> float:
        """When `next_page` has something to read."""
        if self._fresh:
            return -inf
        due = next((batch.tried_at + REREAD_SECONDS for batch in self._batches.values()), inf)
        return max(self._paced_until, -inf if self._stirred else due)

    def next_page(self, now: float) -> list[str]:
        """Return which batches to read now."""
        wanted = chain(self._fresh)
        if now >= self._paced_until:
            overdue = takewhile(
                lambda bid: self._batches[bid].tried_at + REREAD_SECONDS <= now, self._batches
            )
            wanted = chain(self._fresh, self._stirred, overdue)  # safety: overdue-read
        return list(islice(dict.fromkeys(wanted), PAGE))

    def hand_out(self, answers: Mapping[str, Answer], now: float) -> list[Follower]:
        """Give readings, or errors, to their followers; return the followers to wake."""
        paced = any(bid not in self._fresh for bid in answers)
        woken = []
        for bid, answer in answers.items():
            batch = self._batches[bid] = self._batches.pop(bid)  # now it is the last one
            woken += batch.give(answer, now)
            self._fresh.pop(bid, None)
            self._stirred.pop(bid, None)
            if batch.last is not None:
                self._unread.discard(bid)
            if not batch.followers:
                self._forget(bid)
        if paced:
            pause = max(QUIET_SECONDS, len(woken) / WAKES_PER_SECOND)
            self._paced_until = now + min(pause, REREAD_SECONDS)
        return woken

    def _forget(self, bid: str) -> None:
        del self._batches[bid]
        for pending in (self._fresh, self._stirred):
            pending.pop(bid, None)
        for named in (self._unread, self._new):
            named.discard(bid)
        self._left.add(bid)
