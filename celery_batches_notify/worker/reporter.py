"""Reporting: an outcome is told to the store until it is counted, within a time limit, or else spooled."""

from __future__ import annotations

import logging
import random
import time

from celery.exceptions import SoftTimeLimitExceeded

from celery_batches_notify.delivery.outgoing import Outgoing
from celery_batches_notify.delivery.settling import Ending
from celery_batches_notify.errors import BatchesError, SchemaTooNew, StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.messages.headers import DeliveryRef
from celery_batches_notify.store.store import Recorded, Store
from celery_batches_notify.worker.circuit_breaker import CircuitBreaker
from celery_batches_notify.worker.spool import Spool
from celery_batches_notify.worker.spool_records import Message, Report, Settlement, pack_line

FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
REPLAY_SECONDS = 5.0
_EXPECTED = frozenset({"counted", "repeated", "settled", "given_up"})

logger = logging.getLogger(__name__)


class Reporter:
    """Tells the store what became of members and callbacks; never raises, for a user's task must not fail."""

    def __init__(self, store: Store, outgoing: Outgoing, spool: Spool, patience_seconds: float) -> None:
        self.patience_seconds = patience_seconds
        self._store = store
        self._prompt = store.answering_within(patience_seconds)  # safety: report-budget
        self._outgoing = outgoing
        self._spool = spool
        self._circuit_breaker = CircuitBreaker()

    def report(self, member: Membership, outcome: Outcome, *, seconds: float) -> None:
        """Count an outcome, trying for so many seconds while the store is away."""
        self._tell(Report(member=member, outcome=outcome), seconds)

    def settle(self, ref: DeliveryRef, ending: Ending) -> None:
        """Note what became of a callback, trying once."""
        settlement = Settlement(
            bid=ref.bid,
            entry=ref.entry,
            happened=ending.happened,
            delay_seconds=ending.delay_seconds,
            note=ending.note,
            number=ref.number,
        )
        self._tell(settlement, 0)

    def replay(self, said: Message) -> None:
        """Tell the store what the spool kept; there is time. Raises what the store raises."""
        recorded = self._insist(said, REPLAY_SECONDS, patient=True)
        self._circuit_breaker.end()
        self._follow_up(said, recorded)  # safety: spool-follow-up

    def _tell(self, said: Message, seconds: float) -> None:
        how = self._circuit_breaker.ask()
        if how == "do not try":
            self._keep(said, "the batches' store was away a moment ago")
            return
        try:
            recorded = self._insist(said, seconds if how == "insist" else 0)
        except SchemaTooNew as exc:
            _log_of(said).warning("%s waits for an upgrade: %s", said.name, exc)
            self._keep(said, exc)
        except (StoreUnavailable, SoftTimeLimitExceeded) as exc:
            if not self._circuit_breaker.noted:
                logger.warning("batches: outcomes are kept in %s for now: %r", self._spool.path, exc)
            self._circuit_breaker.begin()
            self._keep(said, exc)
        except BatchesError as exc:
            _log_of(said).critical("%s is not counted: %s", said.name, exc)
        except Exception as exc:
            log = _log_of(said)
            log.exception("%s is not counted yet", said.name)
            self._keep(said, exc)
        else:
            self._circuit_breaker.end()
            self._follow_up(said, recorded)

    def _follow_up(self, said: Message, recorded: Recorded) -> None:
        if recorded.word not in _EXPECTED:
            _log_of(said).warning("%s changes nothing: %s", said.name, recorded.word)
        if recorded.due and isinstance(said, Report):
            self._outgoing.submit(said.member.bid, recorded.claims)

    def _insist(self, said: Message, seconds: float, *, patient: bool = False) -> Recorded:
        """Ask the store until it answers, or, unless `patient`, another outcome found that it does not."""
        deadline = time.monotonic() + seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return _ask(self._store if patient else self._store_until(deadline), said)
            except StoreUnavailable:
                # safety: report-again
                if time.monotonic() + pause > deadline or (self._circuit_breaker.noted and not patient):
                    raise
            time.sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _store_until(self, deadline: float) -> Store:
        """The store over connections that give up by then: most willing to wait, or hurried."""
        unhurried = deadline - time.monotonic() > self._prompt.longest_call_seconds
        return self._prompt if unhurried else self._store.no_retry

    def _keep(self, said: Message, why: object) -> None:
        try:
            self._spool.append(pack_line(said))  # safety: report-to-disk
        except OSError as failed:
            _log_of(said).critical("%s is not counted: %s; nor kept: %s", said.name, why, failed)
        else:
            _log_of(said).info("%s is kept for later", said.name)


def _log_of(said: Message) -> BatchLog:
    return BatchLog(logger, bid=said.bid, **said.fields)


def _ask(store: Store, said: Message) -> Recorded:
    if isinstance(said, Report):
        return store.record_outcome(said.member, said.outcome)
    word = store.settle_delivery(
        *(said.bid, said.entry, said.happened, 0),
        delay_seconds=said.delay_seconds,
        note=said.note,
        number=said.number,
    )
    return Recorded(word=word)
