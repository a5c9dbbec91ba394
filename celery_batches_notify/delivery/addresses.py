"""Addresses that fail: notifications wait for them, and go on once one of them was taken."""

from __future__ import annotations

import logging
from hashlib import blake2b

from celery_batches_notify.delivery.publisher import Publisher
from celery_batches_notify.errors import BatchesError, NoSuchBatch, NotificationFailed
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.notifiers.base import Notifier
from celery_batches_notify.notifiers.http import show_origin
from celery_batches_notify.store.addresses import pack_delivery, parse_delivery
from celery_batches_notify.store.errors import is_away
from celery_batches_notify.store.outbox import Address
from celery_batches_notify.store.recorded import Recorded
from celery_batches_notify.store.store import Store

ATTEMPT_SECONDS = 60
COUNTDOWN_AT_MOST = 60.0  # a longer one may outlast a broker's visibility timeout
TAKEN_SECONDS = 10.0  # how long after its time a message may run; then the sweeper sends another
WAKEN_AT_MOST = 50
BUSY = (429, 503)

logger = logging.getLogger(__name__)


def address_of(channel: str, notifier: Notifier) -> Address:
    """Return the address whose failure concerns all its notifications: a URL, a server, or the channel.

    Args:
        channel: The notifier's name or profile.
        notifier: The notifier.
    """
    named = getattr(notifier, "receiver", None) or getattr(notifier, "url", None)
    text = named if isinstance(named, str) else ""
    # safety: address-key
    key = blake2b(f"{channel}\n{text}".encode("utf-8", "replace"), digest_size=16).hexdigest()
    shown = show_origin(text) if text.startswith(("http://", "https://", "smtp://")) else channel
    return Address(key=key, shown=shown)


def is_busy(failed: NotificationFailed) -> bool:
    """Return whether an address is overloaded: its answer says when the next notification may come."""
    return failed.retry_after is not None and failed.status_code in BUSY


def probe_after(pause: float) -> float:
    """Return after how many seconds a sweeper publishes the probe, unless its own message came before."""
    return pause + TAKEN_SECONDS if pause <= COUNTDOWN_AT_MOST else pause


class Addresses:
    """Releases the notifications of an address: one when its pause is over, and all once that was taken."""

    def __init__(self, store: Store, publisher: Publisher) -> None:
        self._store = store
        self._publisher = publisher

    def ask(self, bid: str, entry: str, address: Address) -> float:
        """Return how many seconds an address rests; at 0 the caller must send, and report the answer."""
        who = pack_delivery(bid, entry)
        return self._store.ask_address(address.key, "send", who, seconds=ATTEMPT_SECONDS).seconds

    def release(self, address: Address) -> None:
        """Note that a notification was taken, or refused for good, and publish two of those that wait.

        Each of them releases two more, so the number of workers sets the pace, and none waits for a sweep.
        """
        woken = 0
        for _ in range(WAKEN_AT_MOST):
            waiting = self._store.open_address(address.key, answered=True)
            for who in waiting:
                woken += self._wake(who)  # safety: outage-over
            if woken or not waiting:  # notifications that are gone do not release others
                return

    def pause(self, address: Address, failed: NotificationFailed) -> float:
        """Note that an address failed or is busy, and let it rest; return for how many seconds."""
        busy = is_busy(failed)
        closed = self._store.close_address(address.key, busy=busy, seconds=failed.retry_after or 0)
        if closed.first and not busy:  # if it is busy, the same notification may ask again
            any(self._probe(who, address) for who in closed.candidates)
        return closed.seconds

    def wait(self, bid: str, entry: str, address: Address, *, rest: bool = False) -> None:
        """Let a delivery that is due later wait for its address; publish it at once if the address is open.

        Args:
            bid: Its batch.
            entry: Its entry in the outbox.
            address: Its address.
            rest: It has just been tried, so another one must be the next probe.
        """
        who = pack_delivery(bid, entry)
        wait = self._store.ask_address(address.key, "rest" if rest else "wait", who)
        if wait.probes:
            self._publish_later(who, wait.seconds)
        elif not wait.seconds and not rest:
            self._wake(who)

    def _probe(self, who: str, address: Address) -> bool:
        """Make a waiting notification the probe at the end of the pause; return whether it still exists."""
        bid, entry = parse_delivery(who)
        if not self._claim(bid, entry, TAKEN_SECONDS).due:
            return False
        self.wait(bid, entry, address)
        return True

    def _publish_later(self, who: str, seconds: float) -> None:
        bid, entry = parse_delivery(who)
        for claim in self._claim(bid, entry, probe_after(seconds)).due:
            if seconds <= COUNTDOWN_AT_MOST:  # the sweeper publishes the others
                self._publisher.publish_later(bid, claim, seconds)

    def _wake(self, who: str) -> bool:
        bid, entry = parse_delivery(who)
        recorded = self._claim(bid, entry, TAKEN_SECONDS)
        self._publisher.publish(bid, recorded)
        return bool(recorded.due)

    def _claim(self, bid: str, entry: str, seconds: float) -> Recorded:
        try:
            return self._store.claim_waiting(bid, entry, seconds)
        except NoSuchBatch:
            pass
        except BatchesError as exc:
            if is_away(exc):
                raise
            BatchLog(logger, bid=bid).warning("its notification waits for the sweeper: %s", exc)
        return Recorded(word="none")
