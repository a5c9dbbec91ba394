"""Receivers of the Celery signals that report how a task ended.

`_end` takes the `Outcome` that a signal shows, and decides whether the task goes on in another message, and
whether it was a member, which `_report` reports, or a callback, which is settled.
"""

from __future__ import annotations

import dataclasses
import os
import time
from collections.abc import Callable
from functools import wraps
from typing import Any, ParamSpec

from celery import Celery, signals
from celery.app.task import Context
from celery.exceptions import NotRegistered, Reject, SoftTimeLimitExceeded, TaskRevokedError, WorkerLostError

from celery_batches_notify import traces
from celery_batches_notify.membership import JUST_SUCCEEDED, Membership, Outcome, State
from celery_batches_notify.messages import successors
from celery_batches_notify.messages.block import find_frame, is_in_block, leave_blocks, return_to
from celery_batches_notify.messages.canvas import chord_of
from celery_batches_notify.messages.headers import (
    HEADER,
    DeliveryRef,
    has_header,
    header_of,
    is_delivery,
    read_header,
    read_request,
)
from celery_batches_notify.messages.kept_calls import CHORD_IS_OVER, keep_call, note_arguments
from celery_batches_notify.messages.run import NO_LIMITS, Limits, find_run, run_of
from celery_batches_notify.worker import outcomes
from celery_batches_notify.worker.cancellation import Cancellation
from celery_batches_notify.worker.heartbeat import Heartbeat
from celery_batches_notify.worker.outcomes import watch_stored_states
from celery_batches_notify.worker.process_losses import watch_process
from celery_batches_notify.worker.received import ReceivedRequests
from celery_batches_notify.worker.reporter import BRIEFLY_SECONDS, Reporter, limits_of

P = ParamSpec("P")

_SIGNALS = (
    "task_received",
    "task_prerun",
    "task_success",
    "task_failure",
    "task_retry",
    "task_revoked",
    "task_unknown",
    "task_rejected",
    "task_internal_error",
    "task_postrun",
)


def _repeat_if_interrupted(receiver: Callable[P, None]) -> Callable[P, None]:
    """Run a receiver again if the soft time limit interrupts it: it strikes once, and reports may repeat."""

    @wraps(receiver)
    def finish(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            receiver(*args, **kwargs)
        except SoftTimeLimitExceeded:
            receiver(*args, **kwargs)

    return finish


class Receivers:
    """One app's receivers: in the worker's main process and its children, and wherever eager calls run."""

    def __init__(
        self,
        app: Celery,
        reporter: Callable[[], Reporter],
        cancellation: Callable[[], Cancellation],
        heartbeat: Callable[[], Heartbeat],
    ) -> None:
        self._app = app
        self._heartbeat = heartbeat
        self._reporter = reporter
        self._cancellation = cancellation
        self.received = ReceivedRequests()
        self._receiving_pid: int | None = None
        self.worker_limits: Limits = NO_LIMITS

    def connect(self) -> None:
        """Listen to Celery's signals."""
        for name in _SIGNALS:
            signal = getattr(signals, name)
            uid = f"celery_batches_notify.{name}.{id(self._app)}"
            signal.connect(getattr(self, f"on_{name}"), weak=False, dispatch_uid=uid)

    def on_task_received(self, sender: Any, request: Any, **_: Any) -> None:
        """Remember a request for the signals that come without one, and put it on record."""
        if HEADER in request.request_dict and sender.app is self._app:
            self._receive(request)

    def on_task_prerun(self, task: Any, **_: Any) -> None:
        """Enrol an eager call of an open block, leave all blocks, and note when a member began."""
        request = task.request
        if (HEADER in vars(request) or request.is_eager or is_in_block()) and task.app is self._app:
            self._begin(task, request)

    def on_task_success(self, sender: Any, **_: Any) -> None:
        """Report that a task returned."""
        if has_header(request := sender.request) and sender.app is self._app:
            self._report_return(request)

    def on_task_postrun(self, task: Any, state: Any, retval: Any, **_: Any) -> None:
        """Return to the caller's blocks, and report an end that no other signal reports."""
        request = task.request
        if (find_run(request) or has_header(request) or is_in_block()) and task.app is self._app:
            self._finish(task, request, state, retval)

    @_repeat_if_interrupted
    def on_task_failure(self, sender: Any, task_id: str, exception: Any, einfo: Any, **_: Any) -> None:
        """Report that a task raised for good, or that its process was lost."""
        if sender.app is not self._app:
            return
        request = sender.request if sender.request.id == task_id else self._request_of(task_id)
        if outcomes.runs_again(sender, exception) or isinstance(exception, Reject):
            return  # a rejection is reported by the process that ran the task: only there is its fate known
        lost = isinstance(exception, WorkerLostError)
        backtrace = getattr(einfo, "traceback", None)
        reason, own = "lost" if lost else "failed", outcomes.raised(exception)
        self._end(request, outcomes.dead(request, sender.name, reason, own, backtrace), lost=lost)

    @_repeat_if_interrupted
    def on_task_retry(
        self, sender: Any, request: Any, reason: Any = None, einfo: Any = None, **_: Any
    ) -> None:
        """Report that a task raised and runs again; without a reason Celery only cancelled it."""
        if sender.app is not self._app:
            return
        if reason is not None:
            exc = getattr(reason, "exc", None) or reason
            backtrace = getattr(einfo, "traceback", None)
            self._end(request, outcomes.retried(request, sender.name, exc, backtrace))
        elif not sender.acks_late:
            self._heartbeat().keep_record(request)

    @_repeat_if_interrupted
    def on_task_revoked(self, sender: Any, request: Any, terminated: bool, expired: bool, **_: Any) -> None:
        """Report that a task was revoked, had expired, or was terminated while it ran."""
        if sender.app is self._app:
            reason = "expired" if expired else "terminated" if terminated else "revoked"
            if not expired and self._is_cancelled(read_request(request)):
                reason = "cancelled"
            self._end(request, outcomes.dead(request, sender.name, reason, TaskRevokedError(reason)))

    @_repeat_if_interrupted
    def on_task_unknown(self, sender: Any, message: Any, name: str, **_: Any) -> None:
        """Report a message whose task the worker does not know."""
        self._report_refused(sender, message, name, "not registered", NotRegistered(name))

    @_repeat_if_interrupted
    def on_task_rejected(self, sender: Any, message: Any, exc: Any, **_: Any) -> None:
        """Report a message that the worker cannot read."""
        name = str((message.headers or {}).get("task"))
        self._report_refused(sender, message, name, "rejected", exc or ValueError("unreadable message"))

    @_repeat_if_interrupted
    def on_task_internal_error(self, sender: Any, request: Any, exception: Any, einfo: Any, **_: Any) -> None:
        """Report that Celery failed around a task; if the task had returned, that was counted before."""
        if sender.app is self._app:
            context = Context({**request, "args": None})  # its code may have changed them
            backtrace = getattr(einfo, "traceback", None)
            self._end(context, outcomes.internal_error(context, sender.name, exception, backtrace))

    @_repeat_if_interrupted
    def _receive(self, request: Any) -> None:
        self._receiving_pid = os.getpid()
        self.received.add(request)
        self._cancellation().discard(request)
        self._heartbeat().watch(request)
        if is_delivery(request.request_dict[HEADER], request.id):
            watch_process(request, self._settle_lost)

    @_repeat_if_interrupted
    def _begin(self, task: Any, request: Any) -> None:
        if request.is_eager and self._app.conf.task_always_eager:
            self._enrol_eager(request)
        if (outer := leave_blocks()) is not None:
            run_of(request).outer = outer
        if getattr(request, HEADER, None):
            run = run_of(request)
            run.began_at = time.monotonic()
            run.limits = limits_of(task, request, self.worker_limits)
            note_arguments(request)  # safety: arguments-noted
            _name_batch(request)
            watch_stored_states(task)

    @_repeat_if_interrupted
    def _report_return(self, request: Any) -> None:
        run_of(request).returned = True
        self._end(request, JUST_SUCCEEDED)

    @_repeat_if_interrupted
    def _finish(self, task: Any, request: Any, state: Any, retval: Any) -> None:
        run = find_run(request)
        return_to(run.outer if run else None)
        if not has_header(request):
            return
        alone = request.is_eager or self._receiving_pid == os.getpid()
        if outcome := outcomes.unsignalled(task, state, retval, alone=alone):
            # gevent ends a cancelled task before Celery reports that it was revoked.
            if outcome.reason == "exited" and self._is_cancelled(read_request(request)):
                outcome = dataclasses.replace(outcome, reason="cancelled")
            self._end(request, outcome)

    def _is_cancelled(self, identity: Membership | DeliveryRef | None) -> bool:
        return identity is not None and self._cancellation().knows(identity.bid)

    def _enrol_eager(self, request: Any) -> None:
        """Enrol an eager call of an open block as it starts, because it never becomes a message."""
        frame = find_frame(self._app)
        if frame is not None and frame.owner is not None and (member := frame.owner.enrol_eager(request.id)):
            setattr(request, HEADER, header_of(member))

    def _end(self, request: Any, outcome: Outcome, *, lost: bool = False) -> None:
        """Report how a run ended, unless its task goes on in another message."""
        _name_batch(request)  # again: a tracer that listens after us has begun the span since
        run = run_of(request)
        if run.goes_on:  # under its own id: its next run reports how it ends, unless this one failed
            if outcome.state == State.SUCCEEDED:
                return
            outcome = dataclasses.replace(outcome, state=State.FAILING, reason=None)
        elif outcome.state == State.FAILING and run.is_replaced:
            outcome = JUST_SUCCEEDED  # its retry has another id
        identity = read_request(request)
        if isinstance(identity, Membership):
            self._report(identity, outcome, request)
        elif isinstance(identity, DeliveryRef):
            self._reporter().settle(identity, getattr(request, "task", None), outcome, lost=lost)

    def _report(self, member: Membership, outcome: Outcome, request: Any) -> None:
        run, reporter = run_of(request), self._reporter()
        seconds = reporter.budget_of(run)
        for unsent in run.unsent:  # first, or the batch could finish without them
            never = Context(id=unsent.member.task_id)
            never_ran = outcomes.dead(never, unsent.task, "not sent", unsent.error)
            reporter.report(unsent.member, never_ran, seconds=seconds)
        if outcome.state == State.DEAD:
            outcome = _add_call(outcome, request)
        reporter.report(member, successors.add_to(outcome, request), seconds=seconds)

    def _settle_lost(self, request: Any) -> None:
        """Settle a callback whose process was lost, because its message does not go back to the broker."""
        identity = read_header(request.request_dict[HEADER], request.id)
        if isinstance(identity, DeliveryRef):
            context = Context(id=request.id, retries=request.request_dict.get("retries"))
            lost = outcomes.dead(context, request.name, "lost", WorkerLostError())
            self._reporter().settle(identity, request.name, lost, lost=True)

    def _report_refused(self, consumer: Any, message: Any, name: str, reason: str, exc: Any) -> None:
        headers = message.headers or {}
        identity = read_header(headers.get(HEADER), headers.get("id"))
        if consumer.app is not self._app or identity is None:
            return
        request = Context(id=headers["id"], retries=headers.get("retries"))
        outcome = outcomes.dead(request, name, reason, exc)
        if isinstance(identity, Membership):
            self._reporter().report(identity, outcome, seconds=BRIEFLY_SECONDS)
        else:
            self._reporter().settle(identity, name, outcome, lost=False)

    def _request_of(self, task_id: str) -> Any:
        """Return the request of a task that another process runs, as its message has it."""
        received = self.received.get(task_id)
        return received._context if received is not None else Context(id=task_id)


def _name_batch(request: Any) -> None:
    """Name the batch where a member's run is recorded; an eager call belongs to its caller's span."""
    if traces.is_recording() and not request.is_eager and isinstance(of := read_request(request), Membership):
        traces.name_batch(of.bid, of.index)


def _add_call(outcome: Outcome, request: Any) -> Outcome:
    """Add to a death the call with which `retry()` sends the member again, or why it cannot."""
    # Celery has not yet given up the chord of a task that exited.
    if outcome.reason != "exited" and chord_of(request):  # safety: chord-part-dead
        return dataclasses.replace(outcome, unsendable=CHORD_IS_OVER)
    call, unsendable = keep_call(request, outcome.failure.task if outcome.failure else "")
    return dataclasses.replace(outcome, resend=call, unsendable=unsendable)
