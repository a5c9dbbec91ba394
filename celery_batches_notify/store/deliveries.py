"""Deliveries in the store: the outbox, the log, and the hosts that failed."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass

from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import DeliveryAttempt, DeliveryNote, Event
from celery_batches_notify.store import reading
from celery_batches_notify.store.connection import store_errors
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.runner import Runner, gone
from celery_batches_notify.text import one_line

CHANNEL_AT_MOST = 200

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that somebody must see to: its place in the outbox, and how often it was tried before.

    It is taken for publishing, unless it is `silent`: it was published, and nothing was heard of it for so
    long that it must be given up.
    """

    entry: str
    attempts: int
    silent: bool = False


class DeliveryStore(Runner):
    """What becomes of callbacks, one method per script."""

    def claim_deliveries(self, bid: str) -> list[Claim]:
        """Take the deliveries that are due, and name the silent ones, in the order in which they fired."""
        answer = iter(self._run(self.scripts.claim_deliveries, bid)[1:])
        return [
            Claim(entry=entry, attempts=attempts, silent=word == "silent")
            for entry, attempts, word in zip(answer, answer, answer, strict=True)
        ]

    def settle_delivery(
        self,
        bid: str,
        entry: str,
        happened: str,
        attempt: int,
        *,
        delay_seconds: float = 0,
        note: DeliveryNote | None = None,
        owed: Sequence[str] = (),
    ) -> str:
        """Note what happened to a delivery, and who is still owed it: see the script. Return its word.

        Every delivery that is given up is given up here, so this is where the log names it.
        """
        delay = round(delay_seconds * 1000)
        line, left = reading.pack_note(note) if note else "", reading.pack_owed(owed)
        word, *rest = self._answer(
            self.scripts.settle_delivery, bid, entry, happened, attempt, delay, line, left
        )
        if word == "given_up":
            channel, why = (note.channel, note.detail) if note else ("nobody", "")
            log = log_of_delivery(logger, bid, entry, channel, rest[0])
            log.error("given up (attempt %d): %s", rest[0], why)
        return str(word)

    def redeliver_event(self, bid: str, event: Event) -> list[Claim]:
        """Make the deliveries of an event that has fired due again, and take them."""
        answer = self._change(self.scripts.redeliver_event, bid, event)
        if answer[0] == "gone":
            raise gone(bid)
        return [Claim(entry=entry, attempts=0) for entry in answer[1:]]

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


def log_of_delivery(logger: logging.Logger, bid: str, entry: str, channel: str, attempt: int) -> BatchLog:
    """Return a logger for lines about one attempt of a delivery."""
    words = one_line(channel, CHANNEL_AT_MOST)
    return BatchLog(logger, bid=bid, event=entry.partition(":")[0], channel=words, attempt=attempt)
