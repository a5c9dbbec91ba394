from __future__ import annotations

import traceback
from types import SimpleNamespace

import pytest

from celery_batches_notify.membership import State
from celery_batches_notify.worker import outcomes


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
    outcome = outcomes.dead({"id": "t", "retries": None}, "proj.task", "failed", wrapped)
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


def test_a_backtrace_keeps_its_frames_though_nobody_knows_its_message() -> None:
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
