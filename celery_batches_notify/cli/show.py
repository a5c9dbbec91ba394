"""One batch in a terminal, in the words of its page."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from itertools import chain, islice
from typing import Any

from celery import Celery

from celery_batches_notify.cli.bar import bar_line
from celery_batches_notify.cli.engine_of import engine_of
from celery_batches_notify.cli.exit_codes import ExitCode
from celery_batches_notify.cli.listing import describe as describe_relative
from celery_batches_notify.cli.output import Output, error_line
from celery_batches_notify.doctor.diagnosis import Complaint
from celery_batches_notify.doctor.reasons import find_reasons
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import CorruptBatch, NoSuchBatch, SchemaTooNew
from celery_batches_notify.grouped_failures import GroupView, read_groups
from celery_batches_notify.headline import headline
from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus, DeliveryAttempt, Failure
from celery_batches_notify.pace import Pace, measure_pace
from celery_batches_notify.store.errors import corrupt_errors
from celery_batches_notify.store.parsing import parse_actions, parse_curve, parse_status
from celery_batches_notify.text import counted

Action = tuple[datetime, dict[str, Any]]  # when, and the note

COLUMNS = 100
RELATIVES_AT_MOST = 50
TIMES = ("created", "sealed", "death", "complete", "success", "finish", "cancelled", "expires")


def show_batch(app: Celery, out: Output, *, bid: str, members: str | None, **lists: bool) -> int:
    """Print how a batch goes, and the lists that were asked for; return the exit code.

    Args:
        app: The app.
        out: Prints.
        bid: The batch.
        members: The state whose members are listed, or None.
        lists: Whether `failures`, `deliveries`, `actions` and the `family` are listed one by one.

    Raises:
        NoSuchBatch: It is gone.
    """
    engine = engine_of(app)
    snapshot = engine.store.read_snapshot(bid)
    with corrupt_errors(bid):
        status = parse_status(snapshot, engine.settings.stall_after)
        reasons = find_reasons(engine, snapshot, status)
        pace = measure_pace(status, parse_curve(snapshot), snapshot.now)
        actions = parse_actions(snapshot.batch)
    groups = read_groups(engine, snapshot)
    if not out.as_json:
        lines = (
            describe(status, snapshot.now, pace, ascii_only=out.ascii_only),
            describe_groups(status, groups),
            describe_callbacks(status),
            describe_reasons(reasons),
            describe_actions(actions),
        )
        for line in chain(*lines):
            out.say(line)
    _say_batches(engine, "child", engine.store.walk_children(bid) if status.children else (), out)
    if lists.get("family"):
        _say_batches(engine, "sibling", engine.store.walk_siblings(status), out)
    _say_lists(engine, status, actions if lists.get("actions") else [], out, lists)
    if members is not None:
        _say_members(engine, status, members, out)
    url = engine.settings.page_of(bid)
    said = [asdict(reason) for reason in reasons]
    kinds = [_fields_of_group(group) for group in groups]
    more = {"headline": headline(status, now=snapshot.now), "pace": pace.as_dict(), "reasons": said}
    out.finish(ExitCode.DONE, **status.as_dict(), **more, groups=kinds, url=url)
    return ExitCode.DONE


def describe(status: BatchStatus, now: datetime, pace: Pace, *, ascii_only: bool) -> Iterator[str]:
    """Say how a batch goes, line by line, the most urgent first."""
    yield headline(status, now=now)
    bar = bar_line(
        "", status, COLUMNS, pace.rate, pace.time_left, ascii_only=ascii_only, paint=lambda text, _: text
    )
    yield bar.strip()
    yield " ".join([status.bid, status.state, *(f"#{tag}" for tag in status.tags)])
    times = ((name, getattr(status, f"{name}_at")) for name in TIMES)
    yield ", ".join(f"{name} {_local(at)}" for name, at in times if at is not None)
    if status.parent_bid or status.children:
        yield f"parent {status.parent_bid or 'none'}, {counted(status.children, 'batch', 'batches')} below it"


def describe_groups(status: BatchStatus, groups: Sequence[GroupView]) -> Iterator[str]:
    """Say which kinds of failures there are, and how to retry each."""
    if groups:
        kept = len(status.failure_info)
        yield f"failures: {counted(len(groups), 'kind')} in the {kept:,} that are kept of {status.failures:,}"
    for each in groups:
        group = each.group
        place = f" ({group.place})" if group.place else ""
        yield f"- {group.count:,} × {group.title}{place}: {group.message}"
        if each.dead and status.cancelled_at is None:
            yield f"  {len(each.dead):,} dead: batch retry {status.bid} --group {each.key}"


def describe_callbacks(status: BatchStatus) -> Iterator[str]:
    """Say how far each callback is."""
    for callback in status.callbacks:
        waits = f", waits for {callback.waits_for}" if callback.waits_for else ""
        state = f"{callback.state}, {counted(callback.attempts, 'attempt')}{waits}"
        yield f"callback {callback.entry} {callback.target}: {state}"


def describe_reasons(reasons: Sequence[Complaint]) -> Iterator[str]:
    """Say why the batch is not done, and what to do."""
    for reason in reasons:
        yield f"why: {reason.words}" + (f". To do: {reason.fix}" if reason.fix else "")


def describe_actions(actions: Sequence[Action]) -> Iterator[str]:
    """Say what was done by hand last."""
    if actions:
        more = f", and {len(actions) - 1:,} before it (--actions)" if actions[1:] else ""
        yield f"done by hand: {describe_action(*actions[0])}{more}"


def describe_failure(failure: Failure) -> str:
    """Say in one line which task failed, when and how."""
    at = f"{_local(failure.failed_at)} " if failure.failed_at else ""
    task = f"{failure.task}[{failure.task_id}]"
    return f"{at}attempt {failure.retries + 1} {task} {failure.error_class}: {failure.error_message}"


def describe_attempt(attempt: DeliveryAttempt) -> str:
    """Say in one line how an attempt to deliver a callback went."""
    at = f"{_local(attempt.at)} " if attempt.at else ""
    code = f" {attempt.status_code}" if attempt.status_code else ""
    place = f"{attempt.event}:{attempt.n} {attempt.channel}"
    return f"{at}{place}: attempt {attempt.attempt} {attempt.outcome}{code} {attempt.detail}"


def describe_action(at: datetime, note: Mapping[str, Any]) -> str:
    """Say in one line what was done by hand, when and by whom."""
    count = f": {note['count']:,}" if note.get("count") else ""
    more = [f"{name} {note[name]}" for name in ("group", "event", "n", "channel") if note.get(name)]
    return " ".join([f"{_local(at)} {note['action']} by {note['user']}{count}", *more])


def _say_lists(
    engine: Engine, status: BatchStatus, actions: Sequence[Action], out: Output, lists: Mapping[str, bool]
) -> None:
    for failure in status.failure_info if lists.get("failures") else ():
        out.say(describe_failure(failure), kind="failure", **failure.as_dict())
    for attempt in engine.store.read_deliveries(status.bid) if lists.get("deliveries") else ():
        out.say(describe_attempt(attempt), kind="delivery", **_fields(attempt))
    for at, note in actions:
        out.say(describe_action(at, note), kind="action", at=at, **note)


def _fields_of_group(kind: GroupView) -> dict[str, Any]:
    return {
        "key": kind.key,
        "title": kind.group.title,
        "count": kind.group.count,
        "dead": len(kind.dead),
    }


def _say_batches(engine: Engine, kind: str, bids: Iterable[str], out: Output) -> None:
    """Print how these relatives of a batch go, the first ones if they are many."""
    for bid in islice(bids, RELATIVES_AT_MOST):
        try:
            found = engine.store.read_status(bid)
        except (NoSuchBatch, CorruptBatch, SchemaTooNew) as exc:
            out.say(f"{kind} {exc}", kind=kind, bid=bid, error=error_line(exc))
        else:
            out.say(f"{kind} {describe_relative(found)}", kind=kind, **found.as_dict())


def _say_members(engine: Engine, status: BatchStatus, state: str, out: Output) -> None:
    wanted = State[state.upper()]
    for chunk in engine.store.walk_members(status.bid, status.total):
        for member in chunk:
            if member.state is wanted:
                kind = " (a batch)" if member.is_batch else ""
                fields: dict[str, Any] = {"index": member.index, "id": member.id, "is_batch": member.is_batch}
                out.say(f"#{member.index:,} {member.id} {state}{kind}", kind="member", state=state, **fields)


def _fields(attempt: DeliveryAttempt) -> dict[str, Any]:
    names = ("event", "n", "channel", "attempt", "outcome", "status_code", "detail", "at")
    return {name: getattr(attempt, name) for name in names}


def _local(at: datetime) -> str:
    return f"{at.astimezone():%Y-%m-%d %H:%M:%S}"
