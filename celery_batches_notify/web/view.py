"""The data of one batch's page; the number of readings does not depend on the number of members."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Any

from celery_batches_notify.bar import count_parts
from celery_batches_notify.doctor.diagnosis import Complaint
from celery_batches_notify.doctor.reasons import find_reasons
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import CorruptBatch
from celery_batches_notify.grouped_failures import GroupView, find_groups
from celery_batches_notify.headline import Verdict, describe, judge, name_of
from celery_batches_notify.member_map import size_of
from celery_batches_notify.model import BatchStatus, DeliveryAttempt
from celery_batches_notify.pace import Pace, measure_pace
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import parse_actions, parse_curve, parse_failures, parse_status
from celery_batches_notify.store.statuses import Row
from celery_batches_notify.web.clusters import ClusterReader, map_tag

CHILDREN_SHOWN = 50
ANCESTORS_SHOWN = 10
DELIVERIES_SHOWN = 100
KINDS_SHOWN = 10  # each brings a backtrace of up to 4,000 characters


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchView:
    """The data that the page of a batch shows.

    Attributes:
        status: The batch.
        now: The store's time.
        verdict: How it goes, in one word.
        sentence: How it goes, in one sentence; the same as in mails and in the terminal.
        pace: How fast it moves.
        curve: How many had ended when.
        reasons: Why it has not finished, as far as the store knows.
        groups: Its failures by kind.
        clusters: Where the dead and failing members are, in words.
        deliveries: The attempts to deliver its callbacks, the latest first.
        ancestors: Its parent, that one's parent, and so on, the outermost first.
        siblings: The other batches of its parent, at most `CHILDREN_SHOWN`.
        children: The batches below it, at most `CHILDREN_SHOWN`.
        actions: The actions of users on it, the latest first.
    """

    status: BatchStatus
    now: datetime
    verdict: Verdict
    sentence: str
    pace: Pace
    curve: tuple[tuple[datetime, int], ...]
    reasons: tuple[Complaint, ...]
    groups: tuple[GroupView, ...]
    clusters: tuple[str, ...]
    deliveries: tuple[DeliveryAttempt, ...]
    ancestors: tuple[Row, ...]
    siblings: tuple[Row, ...]
    children: tuple[Row, ...]
    actions: tuple[tuple[datetime, dict[str, Any]], ...]

    @property
    def name(self) -> str:
        """The batch's name for people."""
        return name_of(self.status)

    @property
    def siblings_said(self) -> str:
        """How many other batches its parent has, in words."""
        count = len(self.siblings)
        if count == CHILDREN_SHOWN:
            return f"The first {count} batches"
        return "1 batch" if count == 1 else f"{count} batches"

    @property
    def waiting(self) -> int:
        """How many members have not run yet."""
        return count_parts(self.status)["waiting"]

    @property
    def kept(self) -> int:
        """How many failures are stored, and so grouped."""
        return len(self.status.failure_info)

    @property
    def shown_groups(self) -> tuple[GroupView, ...]:
        """The most frequent kinds of failures, so that the page stays small; JSON has all."""
        return self.groups[:KINDS_SHOWN]

    @property
    def map_size(self) -> tuple[int, int]:
        """The map's width and height."""
        return size_of(self.status.total)

    @property
    def map_tag(self) -> str:
        """A text for the map's URL, which changes as often as the map must be loaded again."""
        return map_tag(self.status, self.now)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "status": self.status.as_dict(),
            "read_at": self.now.isoformat(),
            "verdict": self.verdict.value,
            "sentence": self.sentence,
            "pace": self.pace.as_dict(),
            "curve": [{"at": at.isoformat(), "ended": n} for at, n in self.curve],
            "why": [{"subject": c.subject, "words": c.words, "fix": c.fix} for c in self.reasons],
            "failures": {
                "kept": self.kept,
                "of": self.status.failures,
                "kinds": [_group_as_dict(each) for each in self.groups],
            },
            "clusters": list(self.clusters),
            "deliveries": [_attempt_as_dict(each) for each in self.deliveries],
            "family": {
                "ancestors": [row_as_dict(row) for row in self.ancestors],
                "siblings": [row_as_dict(row) for row in self.siblings],
                "children": [row_as_dict(row) for row in self.children],
            },
            "actions": [{"at": at.isoformat(), **note} for at, note in self.actions],
        }


def read_view(engine: Engine, bid: str, reader: ClusterReader | None = None) -> BatchView:
    """Read the data that the page of a batch shows.

    Args:
        engine: The app's.
        bid: The batch.
        reader: Keeps where the dead and failing members are until the batch moves.

    Raises:
        NoSuchBatch: It is gone.
        SchemaTooNew: A newer version of this package stored it.
        CorruptBatch: It cannot be read.
        StoreUnavailable: The store is away.
    """
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        failures = parse_failures(snapshot.failures)
        status = parse_status(snapshot, engine.settings.stall_after, failures)
        curve, actions = parse_curve(snapshot), parse_actions(snapshot.batch)
        reasons = find_reasons(engine, snapshot, status)
    clusters = (reader or ClusterReader()).read(engine, status, failures)
    deliveries = engine.store.read_deliveries(bid) if status.callbacks else []
    return BatchView(
        status=status,
        now=snapshot.now,
        verdict=judge(status),
        sentence=describe(status, now=snapshot.now),
        pace=measure_pace(status, curve, snapshot.now),
        curve=tuple(curve),
        reasons=tuple(reasons),
        groups=tuple(find_groups(failures, clusters.dead)),
        clusters=clusters.words,
        deliveries=tuple(reversed(deliveries[-DELIVERIES_SHOWN:])),
        ancestors=_read_ancestors(engine, status),
        siblings=_read_siblings(engine, status),
        children=_read_children(engine, status),
        actions=tuple(actions),
    )


def row_as_dict(row: Row) -> dict[str, Any]:
    """Return a row of the list as JSON."""
    if row.status is None:
        return {"bid": row.bid, "error": row.why}
    status = row.status
    out: dict[str, Any] = {**status.as_dict()}
    for absent in ("callbacks", "failure_info", "children", "expires_at"):  # the list does not read them
        del out[absent]
    sentence = describe(status, now=row.now)
    return out | {"verdict": judge(status).value, "sentence": sentence, "given_up": row.given_up}


def sentence_of(row: Row) -> str:
    """Return how a batch of the list goes, in one sentence."""
    assert row.status is not None  # noqa: S101 - the caller checked
    return describe(row.status, now=row.now)


def _read_ancestors(engine: Engine, status: BatchStatus) -> tuple[Row, ...]:
    if not status.parent_bid:
        return ()
    bids: list[str] = []
    with suppress(CorruptBatch):
        bids += islice(engine.store.walk_ancestors(status.bid), ANCESTORS_SHOWN)
    return _in_order(engine, bids[::-1])


def _read_siblings(engine: Engine, status: BatchStatus) -> tuple[Row, ...]:
    with suppress(CorruptBatch):
        return _in_order(engine, list(islice(engine.store.walk_siblings(status), CHILDREN_SHOWN)))
    return ()


def _read_children(engine: Engine, status: BatchStatus) -> tuple[Row, ...]:
    if not status.children:
        return ()
    return _in_order(engine, list(islice(engine.store.walk_children(status.bid), CHILDREN_SHOWN)))


def _in_order(engine: Engine, bids: Sequence[str]) -> tuple[Row, ...]:
    rows = engine.store.read_rows(bids)
    return tuple(rows[bid] for bid in bids if bid in rows)


def _group_as_dict(view: GroupView) -> dict[str, Any]:
    group = view.group
    return {
        "key": view.key,
        "count": group.count,
        "dead": len(view.dead),
        "title": group.title,
        "message": group.message,
        "place": group.place,
        "first": group.first.as_dict(),
        "last": group.last.as_dict(),
    }


def _attempt_as_dict(attempt: DeliveryAttempt) -> dict[str, Any]:
    names = ("event", "n", "channel", "attempt", "outcome", "status_code", "detail")
    at = attempt.at.isoformat() if attempt.at else None
    return {**{name: getattr(attempt, name) for name in names}, "at": at}


def span_of(view: BatchView) -> timedelta:
    """Return how long the batch took, or has been running."""
    return (view.status.finish_at or view.now) - view.status.created_at
