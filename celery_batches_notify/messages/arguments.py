"""Checks of the arguments of `add`, `map` and `parent=`: each error says what to write instead."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from celery_batches_notify.errors import ConfigurationError, InvalidCall


def check_task(given: object) -> None:
    """Raise `InvalidCall` unless `map` can call this, that is, it is a task or a signature."""
    if not _can_be_sent(given):
        fix = "a call runs on a worker, so declare the function with @app.task"
        if _can_be_sent(getattr(given, "__self__", None)):
            fix = "give the task itself, not its delay or apply_async"
        raise InvalidCall(f"map() and starmap() take a task or a signature, got {given!r}: {fix}")


def check_signatures(given: Iterable[object]) -> None:
    """Raise `InvalidCall` unless `add` can call each of these."""
    for each in given:
        if isinstance(each, (list, tuple, Iterator)):
            raise InvalidCall(
                f"add() takes signatures one by one, got a {type(each).__name__}: write add(*signatures)"
            )
        if not _can_be_sent(each):
            raise InvalidCall(f"add() takes signatures, such as task.s(…), got {each!r}")


def explain_parent(given: object) -> ConfigurationError:
    """Return the error for a `parent=` that is not a batch."""
    return ConfigurationError(
        f"parent must be a Batch, got {type(given).__name__}: Batch.get(bid) returns the batch with an id"
    )


def _can_be_sent(given: object) -> bool:
    return callable(getattr(given, "apply_async", None))
