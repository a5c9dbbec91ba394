from __future__ import annotations

import gc
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper

from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.worker import endings
from celery_batches_notify.worker.receivers import Receivers
from celery_batches_notify.worker.stored_states import STORED, watch_stored_states


def task(*, late: bool = False, eager: bool = False, **options: object) -> SimpleNamespace:
    request = SimpleNamespace(id="t", retries=0, is_eager=eager)
    given = {"name": "proj.task", "acks_late": late, "acks_on_failure_or_timeout": True, **options}
    return SimpleNamespace(request=request, **given)


def ended(a_task: object, state: str | None, retval: object = None, **how: bool) -> Outcome | None:
    return endings.unsignalled(a_task, state, retval, **{"goes_on": False, "alone": True, **how})


@pytest.mark.parametrize(
    ("late", "eager", "requeue", "counted"),
    [
        (False, False, False, True),
        (False, False, True, True),
        (True, False, False, True),
        (True, False, True, False),
        (True, True, True, True),
    ],
)
def test_a_rejected_message_that_the_broker_still_holds_changes_nothing(
    late: bool, eager: bool, requeue: bool, counted: bool
) -> None:
    outcome = ended(task(late=late, eager=eager), "REJECTED", Reject("no", requeue=requeue))
    assert (outcome is not None) is counted


@pytest.mark.parametrize(
    ("stored", "state", "error_class", "message"),
    [
        (None, State.SUCCEEDED, None, None),
        (("SUCCESS", 1), State.SUCCEEDED, None, None),
        (("HALFWAY", {}), State.SUCCEEDED, None, None),
        (("FAILURE", ValueError("no")), State.DEAD, "ValueError", "no"),
        (("REVOKED", "why"), State.DEAD, "celery.exceptions.Ignore", "left"),
        (("FAILURE", {"exc_type": "OSError", "exc_message": "gone"}), State.DEAD, "OSError", "gone"),
        (("FAILURE", {"exc_type": "E", "exc_module": "m", "exc_message": 1}), State.DEAD, "m.E", "1"),
        (("FAILURE", {"exc_type": 7}), State.DEAD, "celery.exceptions.Ignore", "left"),
    ],
    ids=repr,
)
def test_ignore_leaves_a_task_as_it_stored_itself(
    stored: tuple[str, object] | None, state: State, error_class: str | None, message: str | None
) -> None:
    ignoring = task()
    if stored:
        setattr(ignoring.request, STORED, stored)
    outcome = ended(ignoring, "IGNORED", Ignore("left"))
    assert outcome is not None and outcome.state == state
    assert (outcome.failure.error_class if outcome.failure else None) == error_class
    assert (outcome.failure.error_message if outcome.failure else None) == message


def test_a_replaced_task_changes_nothing() -> None:
    assert ended(task(), "IGNORED", Ignore("Replaced by new task"), goes_on=True) is None


@pytest.mark.parametrize(
    ("exc", "alone", "late", "counted"),
    [
        (SystemExit(3), True, False, True),
        (KeyboardInterrupt(), True, False, True),
        (SystemExit(3), True, True, False),  # the message is still unacknowledged
        (ValueError("the result backend is down"), True, False, False),  # task_internal_error follows
    ],
)
def test_an_exit_without_another_signal_is_dead_once_the_message_is_gone(
    exc: BaseException, alone: bool, late: bool, counted: bool
) -> None:
    try:
        raise exc
    except BaseException:
        outcome = ended(task(late=late), None, alone=alone)
    assert (outcome is not None) is counted


def test_a_hard_limit_of_gevent_is_told_in_celerys_words() -> None:
    gevent = pytest.importorskip("gevent")
    try:
        raise gevent.Timeout(1)
    except gevent.Timeout:
        outcome = ended(task(late=True), None)
        requeued = ended(task(late=True, acks_on_failure_or_timeout=False), None)
    assert outcome is not None and outcome.failure is not None
    assert outcome.failure.error_class == "billiard.exceptions.TimeLimitExceeded"
    assert requeued is None


def test_a_hard_limit_is_no_death_only_where_the_message_goes_back() -> None:
    limit = TimeLimitExceeded(1)
    assert endings.runs_again(task(late=True, acks_on_failure_or_timeout=False), limit)
    assert endings.runs_again(task(late=True, acks_on_timeout=False), limit)
    assert not endings.runs_again(task(late=True, acks_on_timeout=True), limit)
    assert not endings.runs_again(task(late=False, acks_on_timeout=False), limit)
    assert not endings.runs_again(task(late=True, acks_on_timeout=False), ValueError())


def test_a_retry_whose_state_could_not_be_stored_is_failing() -> None:
    def fail_over(raised: Exception) -> BaseException:
        try:
            try:
                raise raised
            except Exception:
                raise ConnectionError("the result backend is down") from None
        except ConnectionError as exc:
            return exc

    request = task().request
    failing = endings.internal_error(request, "t", fail_over(Retry(exc=OSError("not yet"))), None)
    dead = endings.internal_error(request, "t", fail_over(ValueError("no")), None)
    assert (failing.state, dead.state) == (State.FAILING, State.DEAD)
    assert failing.failure is not None and failing.failure.error_class == "OSError"


def test_the_exception_being_handled_is_told_instead_of_its_stand_in() -> None:
    class Own(ValueError):
        pass

    own = Own("no")
    assert endings.raised(ValueError("no")).args == ("no",)
    try:
        raise own
    except Own:
        assert endings.raised(ValueError("no")) is own
        assert endings.raised(UnpickleableExceptionWrapper("m", "Own", (), "no")) is own
        other = OSError()
        assert endings.raised(other) is other


def test_what_a_task_stores_of_itself_is_noted_and_the_backend_can_go(
    make_app: Callable[..., Celery],
) -> None:
    app = make_app(task_always_eager=True)

    @app.task(bind=True, shared=False)
    def stores(self) -> tuple[str, object]:
        watch_stored_states(self)
        watch_stored_states(self)
        self.backend.store_result("another", None, "FAILURE")
        self.update_state(state="FAILURE", meta="meta")
        return getattr(self.request, STORED)

    app._local.backend = app._get_backend()
    push = app.tasks[stores.name]
    push.push_request(id="t", called_directly=False)
    from celery._state import _task_stack

    _task_stack.push(push)
    try:
        assert push.run() == ("FAILURE", "meta")
    finally:
        _task_stack.pop()
        push.pop_request()
    assert vars(app.backend)["store_result"]._backend() is app.backend


def test_a_second_delivery_that_ends_does_not_take_the_first_ones_answer_away(app: Celery) -> None:
    class Request:
        def __init__(self, n: int) -> None:
            self.id, self.n = "t", n
            self.request_dict = {"batches": {}}

    parts = app._batches_engine.parts
    receivers = Receivers(app, lambda: None, lambda: parts.cancellation, lambda: parts.heartbeat)
    first, second = Request(1), Request(2)
    for request in (first, second):
        receivers.on_task_received(SimpleNamespace(app=app), request)
    del request, second
    gc.collect()
    assert receivers.held["t"].n == 2
    del first
    gc.collect()
    assert "t" not in receivers.held
