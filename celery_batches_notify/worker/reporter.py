"""Reporting: send an outcome to the store until it is counted, or spool it when its time is over."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence
from typing import Any

from celery.exceptions import SoftTimeLimitExceeded

from celery_batches_notify.delivery.outgoing import Outgoing
from celery_batches_notify.delivery.settling import ending_of
from celery_batches_notify.errors import BatchesError, SchemaTooNew, StoreUnavailable
from celery_batches_notify.log_lines import BatchLog
from celery_batches_notify.membership import Membership, Outcome
from celery_batches_notify.messages.headers import DeliveryRef
from celery_batches_notify.messages.run import NO_LIMITS, Limits, Run
from celery_batches_notify.store.recorded import Recorded
from celery_batches_notify.store.store import Store
from celery_batches_notify.worker.circuit_breaker import CircuitBreaker
from celery_batches_notify.worker.spool import Spool
from celery_batches_notify.worker.spool_records import Message, Report, Settlement, pack_line

BRIEFLY_SECONDS = 1.0
FIRST_PAUSE_SECONDS = 0.1
LONGEST_PAUSE_SECONDS = 2.0
REPLAY_SECONDS = 5.0
_EXPECTED = frozenset({"counted", "repeated", "settled", "given_up"})

logger = logging.getLogger(__name__)


class Reporter:
    """Reports to the store how members and callbacks ended. It never raises, so no user's task fails by it.

    Args:
        store: The store that counts them.
        outgoing: Publishes the callbacks that become due.
        spool: Keeps the reports that the store does not take in time.
        timeout_seconds: How long one report may take, if the time limits of its task leave as much.
        clock: The monotonic clock.
        sleep: Waits for so many seconds.
    """

    def __init__(
        self,
        store: Store,
        outgoing: Outgoing,
        spool: Spool,
        timeout_seconds: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.timeout_seconds = timeout_seconds
        self._store = store
        self._prompt = store.answering_within(timeout_seconds)  # safety: report-budget
        self._outgoing = outgoing
        self._spool = spool
        self._clock = clock
        self._sleep = sleep
        self._circuit_breaker = CircuitBreaker(clock)

    def budget_of(self, run: Run) -> float:
        """Return how many seconds the report of a run may take: little in a process that does not run it."""
        if run.began_at is None:
            return BRIEFLY_SECONDS
        return budget_within(run.limits, self._clock() - run.began_at, at_most=self.timeout_seconds)

    def report(self, member: Membership, outcome: Outcome, *, seconds: float) -> None:
        """Count an outcome, trying for so many seconds while the store is away."""
        self._send(Report(member=member, outcome=outcome), seconds)

    def settle(self, ref: DeliveryRef, task: str | None, outcome: Outcome, *, lost: bool) -> None:
        """Settle a callback whose task ended so, trying once; `lost`: its process was lost with it."""
        if (ending := ending_of(task, outcome, lost=lost)) is not None:
            settlement = Settlement(
                bid=ref.bid,
                entry=ref.entry,
                happened=ending.happened,
                delay_seconds=ending.delay_seconds,
                note=ending.note,
                number=ref.number,
            )
            self._send(settlement, 0)

    def replay(self, message: Message) -> None:
        """Send what the spool kept, without hurry. Raises what the store raises."""
        recorded = self._insist(message, REPLAY_SECONDS, patient=True)
        self._circuit_breaker.close()
        self._follow_up(message, recorded)  # safety: spool-follow-up

    def replay_successes(self, bid: str, members: Sequence[Membership]) -> list[str]:
        """Send plain successes of one batch that the spool kept, trying once; return the word for each.

        The word `apart` leaves one to `replay`. Raises what the store raises.
        """
        words = self._store.no_retry.record_successes(bid, members)
        self._circuit_breaker.close()
        return words

    def _send(self, message: Message, seconds: float) -> None:
        how = self._circuit_breaker.ask()
        if how == "do not try":
            self._keep(message, "the batches' store was away a moment ago")
            return
        try:
            recorded = self._insist(message, seconds if how == "insist" else 0)
        except SchemaTooNew as exc:
            _log_of(message).warning("%s waits for an upgrade: %s", message.name, exc)
            self._keep(message, exc)
        except (StoreUnavailable, SoftTimeLimitExceeded) as exc:
            if not self._circuit_breaker.is_open:
                logger.warning("batches: outcomes are kept in %s for now: %r", self._spool.path, exc)
            self._circuit_breaker.open()
            self._keep(message, exc)
        except BatchesError as exc:
            _log_of(message).critical("%s is not counted: %s", message.name, exc)
        except Exception as exc:
            log = _log_of(message)
            log.exception("%s is not counted yet", message.name)
            self._keep(message, exc)
        else:
            self._circuit_breaker.close()
            self._follow_up(message, recorded)

    def _follow_up(self, message: Message, recorded: Recorded) -> None:
        if recorded.word not in _EXPECTED:
            _log_of(message).warning("%s changes nothing: %s", message.name, recorded.word)
        if recorded.due and isinstance(message, Report):
            self._outgoing.submit(message.bid, recorded)

    def _insist(self, message: Message, seconds: float, *, patient: bool = False) -> Recorded:
        """Send until the store answers or, unless `patient`, another report finds that it does not."""
        deadline = self._clock() + seconds
        pause = FIRST_PAUSE_SECONDS
        while True:
            try:
                return _record(self._store if patient else self._store_until(deadline), message)
            except StoreUnavailable:
                # safety: report-again
                if self._clock() + pause > deadline or (self._circuit_breaker.is_open and not patient):
                    raise
            self._sleep(pause * (0.5 + random.random() / 2))  # noqa: S311 - jitter
            pause = min(pause * 2, LONGEST_PAUSE_SECONDS)

    def _store_until(self, deadline: float) -> Store:
        """Return the store over connections that give up by then: with retries if there is time for them."""
        has_time = deadline - self._clock() > self._prompt.longest_call_seconds
        return self._prompt if has_time else self._store.no_retry

    def _keep(self, message: Message, why: object) -> None:
        try:
            self._spool.append(pack_line(message))  # safety: report-to-disk
        except OSError as failed:
            _log_of(message).critical("%s is not counted: %s; nor kept: %s", message.name, why, failed)
        else:
            _log_of(message).info("%s is kept for later", message.name)


def limits_of(task: Any, request: Any, worker: Limits) -> Limits:
    """Return a running task's hard and soft limit: its message's, else its own, else the worker's."""
    of_message = request.timelimit or NO_LIMITS
    hard = of_message[0] or task.time_limit or worker[0]
    soft = of_message[1] or task.soft_time_limit or worker[1]
    return hard, soft


def budget_within(limits: Limits, elapsed_seconds: float, *, at_most: float) -> float:
    """Return how many seconds a report may take: at most half of what the task's next limit leaves."""
    if limits == NO_LIMITS:
        return at_most
    hard = limits[0]
    if hard and hard <= elapsed_seconds:
        return 0.0
    ahead = [limit - elapsed_seconds for limit in limits if limit and limit > elapsed_seconds]
    return min([at_most, *(left / 2 for left in ahead)])


def _log_of(message: Message) -> BatchLog:
    return BatchLog(logger, bid=message.bid, **message.fields)


def _record(store: Store, message: Message) -> Recorded:
    if isinstance(message, Report):
        return store.record_outcome(message.member, message.outcome)
    return store.settle_delivery(
        *(message.bid, message.entry, message.happened, 0),
        delay_seconds=message.delay_seconds,
        note=message.note,
        number=message.number,
    )
