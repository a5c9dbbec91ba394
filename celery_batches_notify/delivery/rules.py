"""Rules: `only_if` says when a callback is worth sending."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from celery_batches_notify.errors import InvalidCallback
from celery_batches_notify.model import BatchStatus

RULES = ("failures", "failure_share", "dead", "total", "slower_than", "faster_than")
_DURATIONS = ("slower_than", "faster_than")


def check_rules(rules: object) -> dict[str, float]:
    """Return the rules of a callback, checked.

    Args:
        rules: All must hold: a minimum of `failures`, `dead` or `total` members, a minimum `failure_share`
            (0 to 1), `slower_than` or `faster_than` a number of seconds or a `timedelta` between the batch's
            creation and its finish, or now.

    Raises:
        InvalidCallback: A rule is unknown, or its value is impossible.
    """
    if not isinstance(rules, Mapping) or not rules:
        raise InvalidCallback(f"only_if must be a mapping of rules ({', '.join(RULES)}), got {rules!r}")
    checked: dict[str, float] = {}
    for name, given in rules.items():
        if name not in RULES:
            raise InvalidCallback(f"only_if: unknown rule {name!r}; the rules are {', '.join(RULES)}")
        is_duration = name in _DURATIONS and isinstance(given, timedelta)
        value = given.total_seconds() if is_duration else given
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            kind = "seconds >= 0 or a timedelta" if name in _DURATIONS else "a number >= 0"
            raise InvalidCallback(f"only_if: {name} must be {kind}, got {given!r}")
        if name == "failure_share" and value > 1:
            raise InvalidCallback(f"only_if: failure_share must be from 0 to 1, got {value!r}")
        checked[name] = value
    return checked


def rules_hold(rules: Mapping[str, Any], status: BatchStatus, now: datetime) -> bool:
    """Return whether all rules hold for a batch."""
    seconds = ((status.finish_at or now) - status.created_at).total_seconds()
    share = status.failures / status.total if status.total else 0.0
    holds: dict[str, Callable[[float], bool]] = {
        "failures": lambda least: status.failures >= least,
        "failure_share": lambda least: share >= least,
        "dead": lambda least: status.dead >= least,
        "total": lambda least: status.total >= least,
        "slower_than": lambda limit: seconds > limit,
        "faster_than": lambda limit: seconds < limit,
    }
    return all(holds[name](value) for name, value in rules.items())
