from __future__ import annotations

from types import SimpleNamespace

import pytest

from celery_batches_notify.model import State
from celery_batches_notify.tracking import outcomes


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
