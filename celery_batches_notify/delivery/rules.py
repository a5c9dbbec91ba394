"""Rules: `only_if` says in a few JSON words when a callback is worth sending."""

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
        rules: What must hold, all of it: at least so many `failures`, `dead` or `total` members, at least
            such a `failure_share` (0 to 1), `slower_than` or `faster_than` so many seconds or a `timedelta`
            from the batch's creation to its finish, or until now.

    Raises:
        InvalidCallback: A rule is unknown, or its value is no possible one.
    """
    if not isinstance(rules, Mapping) or not rules:
        raise InvalidCallback(f"only_if: give a mapping of rules, of {', '.join(RULES)}")
    checked: dict[str, float] = {}
    for name, given in rules.items():
        if name not in RULES:
            raise InvalidCallback(f"only_if: there is no rule {name!r}; there are {', '.join(RULES)}")
        is_duration = name in _DURATIONS and isinstance(given, timedelta)
        value = given.total_seconds() if is_duration else given
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
            kind = (
                "a number of seconds from 0 on or a timedelta" if name in _DURATIONS else "a number from 0 on"
            )
            raise InvalidCallback(f"only_if: {name} takes {kind}, not {given!r}")
        if name == "failure_share" and value > 1:
            raise InvalidCallback(f"only_if: failure_share is a share from 0 to 1, not {value!r}")
        checked[name] = value
    return checked


def rules_hold(rules: Mapping[str, Any], status: BatchStatus, now: datetime) -> bool:
    """Whether all rules hold for a batch."""
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
