"""Deliveries in the store: the outbox and the log."""

from __future__ import annotations

import logging
from collections.abc import Sequence

from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.model import DeliveryAttempt, DeliveryNote
from celery_batches_notify.store import outbox
from celery_batches_notify.store.base import StoreBase, gone
from celery_batches_notify.store.errors import corrupt_errors, store_errors
from celery_batches_notify.store.packing import LOG_LENGTH
from celery_batches_notify.store.recorded import Claim, Recorded, parse_claims
from celery_batches_notify.text import one_line

CHANNEL_AT_MOST = 200
STUCK_SECONDS = 5 * 60.0  # for a user's task 12 times as long: see the script

logger = logging.getLogger(__name__)


class DeliveryStore(StoreBase):
    """The store's methods for deliveries of callbacks."""

    def claim_deliveries(self, bid: str) -> Recorded:
        """Take the deliveries that are due, and name the silent ones, in firing order."""
        return parse_claims(self._run(self.scripts.claim_deliveries, bid))

    def claim_waiting(self, bid: str, entry: str, seconds: float) -> Recorded:
        """Take one waiting delivery for so many seconds; nothing is due if it does not wait any more."""
        lease = round(seconds * 1000)
        return parse_claims(self._run(self.scripts.claim_deliveries, bid, entry, lease))

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
        waits_for: str = "",
        number: int = 0,
    ) -> Recorded:
        """Record what happened to a delivery, and which receivers are still owed it: see the script.

        `waits_for` is the address that it waits for; `number` is that of the claim, or 0 if it is not known.
        Every delivery that is given up is given up here, so it is logged here.
        """
        delay = round(delay_seconds * 1000)
        line, left = outbox.pack_note(note) if note else "", outbox.pack_owed(owed)
        word, *rest = self._answer(
            *(self.scripts.settle_delivery, bid, entry, happened, attempt, delay),
            *(line, left, waits_for, number),
        )
        if word == "given_up":
            channel, why = (note.channel, note.detail) if note else ("nobody", "")
            log = log_of_delivery(logger, bid, entry, channel, rest[0])
            log.error("given up (attempt %d): %s", rest[0], why)
        return Recorded(word=word)

    def redeliver_event(
        self, bid: str, entries: Sequence[str], *, ended: bool = False, since_ms: int = 0
    ) -> Recorded:
        """Make fired deliveries due again, and take them: those that were given up, and those that are stuck.

        Args:
            bid: The batch.
            entries: Their entries in the outbox.
            ended: Also take those that were delivered or skipped.
            since_ms: Of those given up, take only those given up since then.
        """
        which, stuck = "ended" if ended else "stuck", round(STUCK_SECONDS * 1000)
        answer = self._change(self.scripts.redeliver_event, bid, which, stuck, since_ms, *entries)
        if answer[0] == "gone":
            raise gone(bid)
        again = zip(answer[1::2], answer[2::2], strict=True)
        return Recorded(word=answer[0], due=[Claim(entry=entry, number=number) for entry, number in again])

    def read_deliveries(self, bid: str) -> list[DeliveryAttempt]:
        """Read the delivery log, oldest first."""
        with store_errors(self.settings), corrupt_errors(bid):
            log = self.client.lrange(self.keys.part(bid, "deliveries"), -LOG_LENGTH, -1)
            return outbox.parse_attempts(log)


def log_of_delivery(logger: logging.Logger, bid: str, entry: str, channel: str, attempt: int) -> BatchLog:
    """Return a logger for lines about one attempt of a delivery."""
    words = one_line(channel, CHANNEL_AT_MOST)
    return BatchLog(logger, bid=bid, event=entry.partition(":")[0], channel=words, attempt=attempt)
