"""Deliveries in the store: the outbox, the log, and the hosts that failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from celery_batches_notify.model import DeliveryAttempt, Event
from celery_batches_notify.store import reading
from celery_batches_notify.store.connection import store_errors
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.runner import Runner, gone


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery taken for publishing: its place in the outbox, and how often it was tried before."""

    entry: str
    attempts: int


class DeliveryStore(Runner):
    """What becomes of callbacks, one method per script."""

    def claim_deliveries(self, bid: str) -> list[Claim]:
        """Take the deliveries that are due, in the order in which they fired."""
        answer = self._run(self.scripts.claim_deliveries, bid)[1:]
        return [Claim(entry=e, attempts=n) for e, n in zip(answer[::2], answer[1::2], strict=True)]

    def settle_delivery(
        self,
        bid: str,
        entry: str,
        happened: str,
        attempt: int,
        *,
        delay_seconds: float = 0,
        log: DeliveryAttempt | None = None,
        owed: Sequence[str] = (),
    ) -> str:
        """Note what happened to a delivery, and who is still owed it: see the script. Return its word."""
        delay = round(delay_seconds * 1000)
        line = reading.pack_attempt(log) if log else ""
        left = reading.pack_owed(owed)
        answer = self._answer(self.scripts.settle_delivery, bid, entry, happened, attempt, delay, line, left)
        return str(answer[0])

    def redeliver_event(self, bid: str, event: Event) -> list[Claim]:
        """Make the deliveries of an event that has fired due again, and take them."""
        answer = self._change(self.scripts.redeliver_event, bid, event)
        if answer[0] == "gone":
            raise gone(bid)
        return [Claim(entry=entry, attempts=0) for entry in answer[1:]]

    def read_attempts(self, bid: str, entry: str) -> int:
        """Read how often a delivery was published."""
        with store_errors(self.settings):
            value: Any = self.client.hget(self.keys.part(bid, "outbox"), entry)
        return reading.parse_entry(value)[1]

    def read_deliveries(self, bid: str) -> list[DeliveryAttempt]:
        """Read the delivery log, oldest first."""
        with store_errors(self.settings), readable(bid):
            return reading.parse_attempts(self.client.lrange(self.keys.part(bid, "deliveries"), 0, -1))

    def ask_host(self, host: str, attempt_seconds: float) -> float:
        """How many seconds a host that failed must be left alone; 0 to go ahead."""
        with store_errors(self.settings):
            answer = self.scripts.ask_host([self.keys.host(host)], ["", round(attempt_seconds * 1000)])
        return answer[1] / 1000 if answer[0] == "wait" else 0.0

    def note_host(self, host: str, *, answered: bool, pause_seconds: float = 0) -> None:
        """Note how a host answered; one that failed is left alone for a while, longer each time."""
        word = "answered" if answered else "failed"
        with store_errors(self.settings):
            self.scripts.note_host([self.keys.host(host)], ["", word, round(pause_seconds * 1000)])
