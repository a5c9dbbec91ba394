from __future__ import annotations

import gc
import traceback
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry, TimeLimitExceeded
from celery.utils.serialization import UnpickleableExceptionWrapper

from celery_batches_notify.membership import Outcome, State
from celery_batches_notify.messages.run import run_of
from celery_batches_notify.worker import outcomes
from celery_batches_notify.worker.receivers import Receivers


class Broken(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize(
    ("exc", "error_class", "message"),
    [
        (ValueError("no"), "ValueError", "no"),
        (Broken(), f"{__name__}.Broken", "<Broken.__str__ raised RuntimeError>"),
        (ValueError("x" * 10_000_000), "ValueError", "x" * 2000),
        (ValueError("lone \ud800 surrogate"), "ValueError", "lone ? surrogate"),
        (ValueError("zero \0 byte"), "ValueError", "zero \0 byte"),
        (type("L" * 500, (Exception,), {"__module__": "builtins"})("x"), "L" * 200, "x"),
    ],
    ids=["plain", "broken", "huge", "surrogate", "nul", "long class"],
)
def test_a_failure_is_capped_and_never_raises(exc: BaseException, error_class: str, message: str) -> None:
    request = SimpleNamespace(id="t", retries=2)
    outcome = outcomes.failing(request, "proj.task", exc, "trace" * 10_000)
    assert (outcome.state, outcome.attempt) == (State.FAILING, 3)
    assert outcome.failure is not None
    assert (outcome.failure.error_class, outcome.failure.error_message) == (error_class, message)
    assert outcome.failure.retries == 2
    assert len(outcome.failure.backtrace or "") == 4000


def test_an_exception_that_celery_could_not_pickle_keeps_its_own_name() -> None:
    wrapped = SimpleNamespace(exc_cls_name="LockError")
    outcome = outcomes.dead(SimpleNamespace(id="t", retries=None), "proj.task", "failed", wrapped)
    assert outcome.failure is not None
    assert (outcome.failure.error_class, outcome.attempt, outcome.failure.backtrace) == ("LockError", 1, None)


def raised(message: str, cause: str = "") -> ValueError:
    try:
        try:
            raise KeyError(cause)
        except KeyError as exc:
            raise ValueError(message) from (exc if cause else None)
    except ValueError as exc:
        return exc


def backtrace_of(exc: BaseException, text: str | None = None) -> str:
    text = "".join(traceback.format_exception(exc)) if text is None else text
    failure = outcomes.failing(SimpleNamespace(id="t", retries=0), "proj.task", exc, text).failure
    assert failure is not None
    assert failure.backtrace is not None
    return failure.backtrace


FRAME = f'  File "{__file__}", line '
LAST_LINE = "raise ValueError(message) from"


@pytest.mark.parametrize(
    "message",
    ["x" * 5_000, "x" * 100_000, "line\n" * 2_000, '  File "forged.py", line 1, in x\n' * 500 + "end"],
    ids=["5,000", "100,000", "many lines", "forged frames"],
)
@pytest.mark.parametrize("cause", ["", "y" * 9_000], ids=["alone", "with a long cause"])
def test_a_backtrace_keeps_its_frames_and_shortens_its_message(message: str, cause: str) -> None:
    kept = backtrace_of(raised(message, cause))
    assert len(kept) <= outcomes.BACKTRACE_AT_MOST
    assert FRAME in kept and LAST_LINE in kept
    assert f"ValueError: {message[:400]}" in kept and kept.endswith("…")


def test_a_backtrace_keeps_its_frames_even_if_its_message_is_unknown() -> None:
    text = "".join(traceback.format_exception(raised("x" * 100_000)))
    kept = backtrace_of(RuntimeError("another"), text)
    assert FRAME in kept and LAST_LINE in kept and "ValueError: xxx" in kept


def test_a_backtrace_that_is_deep_keeps_the_frames_next_to_the_error() -> None:
    frames = "".join(f'  File "deep.py", line {n}, in f\n    f({n})\n' for n in range(1_000))
    kept = backtrace_of(ValueError("no"), f"Traceback (most recent call last):\n{frames}ValueError: no\n")
    assert len(kept) == outcomes.BACKTRACE_AT_MOST
    assert kept.endswith("in f\n    f(999)\nValueError: no")


def test_a_short_backtrace_stays_as_it_is() -> None:
    text = "".join(traceback.format_exception(raised("no")))
    assert backtrace_of(raised("no"), text) == text


def task(*, late: bool = False, eager: bool = False, **options: object) -> SimpleNamespace:
    request = SimpleNamespace(id="t", retries=0, is_eager=eager)
    given = {"name": "proj.task", "acks_late": late, "acks_on_failure_or_timeout": True, **options}
    return SimpleNamespace(request=request, **given)


def ended(a_task: object, state: str | None, retval: object = None, *, alone: bool = True) -> Outcome | None:
    return outcomes.unsignalled(a_task, state, retval, alone=alone)


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
        run_of(ignoring.request).stored = stored
    outcome = ended(ignoring, "IGNORED", Ignore("left"))
    assert outcome is not None and outcome.state == state
    assert (outcome.failure.error_class if outcome.failure else None) == error_class
    assert (outcome.failure.error_message if outcome.failure else None) == message


def test_a_replaced_task_changes_nothing() -> None:
    replaced = task()
    run_of(replaced.request).goes_on = True
    assert ended(replaced, "IGNORED", Ignore("Replaced by new task")) is None


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


def test_a_hard_limit_of_gevent_is_reported_as_celerys_own() -> None:
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
    assert outcomes.runs_again(task(late=True, acks_on_failure_or_timeout=False), limit)
    assert outcomes.runs_again(task(late=True, acks_on_timeout=False), limit)
    assert not outcomes.runs_again(task(late=True, acks_on_timeout=True), limit)
    assert not outcomes.runs_again(task(late=False, acks_on_timeout=False), limit)
    assert not outcomes.runs_again(task(late=True, acks_on_timeout=False), ValueError())


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
    failing = outcomes.internal_error(request, "t", fail_over(Retry(exc=OSError("not yet"))), None)
    dead = outcomes.internal_error(request, "t", fail_over(ValueError("no")), None)
    assert (failing.state, dead.state) == (State.FAILING, State.DEAD)
    assert failing.failure is not None and failing.failure.error_class == "OSError"


def test_the_exception_being_handled_is_reported_instead_of_its_stand_in() -> None:
    class Own(ValueError):
        pass

    own = Own("no")
    assert outcomes.raised(ValueError("no")).args == ("no",)
    try:
        raise own
    except Own:
        assert outcomes.raised(ValueError("no")) is own
        assert outcomes.raised(UnpickleableExceptionWrapper("m", "Own", (), "no")) is own
        other = OSError()
        assert outcomes.raised(other) is other


def test_a_state_that_a_task_stores_is_noted_and_the_backend_can_go(
    make_app: Callable[..., Celery],
) -> None:
    app = make_app(task_always_eager=True)

    @app.task(bind=True, shared=False)
    def stores(self) -> tuple[str, object]:
        outcomes.watch_stored_states(self)
        outcomes.watch_stored_states(self)
        self.backend.store_result("another", None, "FAILURE")
        self.update_state(state="FAILURE", meta="meta")
        return run_of(self.request).stored

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

    engine = app._batches_extension.engine
    receivers = Receivers(app, lambda: None, lambda: engine.cancellation, lambda: engine.heartbeat)
    first, second = Request(1), Request(2)
    for request in (first, second):
        receivers.on_task_received(SimpleNamespace(app=app), request)
    del request, second
    gc.collect()
    assert receivers.received.get("t").n == 2
    del first
    gc.collect()
    assert "t" not in receivers.received
