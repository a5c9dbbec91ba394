"""Packs members, reports and failures into arguments of the scripts. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b

from kombu.utils import json

from celery_batches_notify.membership import JUST_SUCCEEDED, Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.fast_eval import Argument

# The scripts know these too: see `scripts/__init__.py`.
ATTEMPTS_PER_ROUND = 4096
ROUNDS = 16
ID_BYTES = 16
ATTEMPTS_AT_MOST = 8  # of a delivery
CALLBACKS_AT_MOST = 32  # of a batch
LOG_LENGTH = 100  # of the delivery log
SENDING_MS = 60_000  # how long a process has to send members that it took for another round
GROUP_AT_MOST, SPAN_AT_MOST = 200, 1000  # successes in one call of a script, and how far apart they stand
APART = "apart"  # the word for a success that a shared call leaves to a call of its own
_UUID_LENGTH = 36
_HYPHENS = 8, 13, 18, 23
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def pack_id(task_id: str) -> bytes:
    """Return the 16 bytes that stand for a task id: those of the UUID, else a hash of the id."""
    if is_uuid(task_id):
        return bytes.fromhex(task_id.replace("-", ""))
    return blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def pack_ids(task_ids: Sequence[str]) -> tuple[bytes, list[tuple[int, str]]]:
    """Return the 16 bytes of each of these task ids, and those that are no UUIDs with their places."""
    if (packed := _pack_uuids(task_ids)) is not None:
        return packed, []
    named = [(place, task_id) for place, task_id in enumerate(task_ids) if not is_uuid(task_id)]
    return b"".join(map(pack_id, task_ids)), named


def _pack_uuids(task_ids: Sequence[str]) -> bytes | None:
    """Return the bytes of many UUIDs, in a fifth of the time that one by one takes; None if some are none."""
    joined = "".join(task_ids)
    digits, hyphens = joined.replace("-", ""), "-" * len(task_ids)
    if set(map(len, task_ids)) != {_UUID_LENGTH} or len(digits) * 36 != len(joined) * 32:
        return None
    if any(joined[place::_UUID_LENGTH] != hyphens for place in _HYPHENS):
        return None
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return None
    return packed if packed.hex() == digits else None  # capitals would not come back


def is_uuid(task_id: str) -> bool:
    """Whether the task id can be restored exactly from its 16 bytes."""
    return _UUID.fullmatch(task_id) is not None


def pack_member(member: Membership) -> tuple[int, bytes, bytes]:
    """Pack a member: its index, its 16 bytes, and an empty text.

    A successor is packed as the index of the member whose canvas it continues, its own 16 bytes, and those of
    that member. If its header does not name that member, it counts only once another report has announced it.
    """
    packed = pack_id(member.identity)
    if member.index is not None:
        return member.index, packed, b""
    index, first_id = member.of or (0, "")
    return index, packed, pack_id(first_id) if first_id else b"unknown"


def pack_successors(member: Membership, outcome: Outcome) -> list[bytes | str]:
    """Pack a report's successors (16 bytes each), its chord's body, and the ids that are not UUIDs."""
    late = [*outcome.successors, *outcome.body, *([member] if member.index is None else [])]
    names = [(pack_id(m.identity), m.task_id) for m in late if not is_uuid(m.identity)]
    return [
        b"".join(pack_id(m.identity) for m in outcome.successors),
        "broken" if outcome.breaks_chord else b"".join(pack_id(m.identity) for m in outcome.body),
        *(part for pair in names for part in pair),
    ]


def is_plain(outcome: Outcome) -> bool:
    """Whether a member just succeeded, as nearly all do: its report has nothing else to say."""
    return outcome is JUST_SUCCEEDED or outcome == JUST_SUCCEEDED


def pack_report(member: Membership, outcome: Outcome, settings: Settings) -> list[Argument]:
    """Pack a report as `shared/report.lua` names it; most successes end after their state."""
    index, packed_id, late_of = pack_member(member)
    if not late_of and is_plain(outcome):
        return [index, packed_id, int(outcome.state)]
    return [
        index,
        packed_id,
        int(outcome.state),
        pack_stamp(member, outcome.attempt) if outcome.state != State.SUCCEEDED else 0,
        outcome.reason or "",
        pack_failure(outcome.failure),
        settings.failures_kept,
        outcome.resend,
        outcome.unsendable,
        settings.retry_kept,
        late_of,
        *pack_successors(member, outcome),
    ]


def group_successes(members: Sequence[Membership]) -> list[list[int]]:
    """Return which members one call of `record_successes` takes: as places in the sequence, by their indexes.

    Successors are left out, because their messages do not say which index is theirs.
    """
    groups: list[list[int]] = []
    first = 0
    for index, place in sorted((m.index, n) for n, m in enumerate(members) if m.index is not None):
        if not groups or len(groups[-1]) == GROUP_AT_MOST or index - first >= SPAN_AT_MOST:
            groups.append([])
            first = index
        groups[-1].append(place)
    return groups


def pack_successes(members: Sequence[Membership]) -> list[Argument]:
    """Pack plain successes as `record_successes` reads them: index and id of each."""
    return [part for member in members for part in pack_member(member)[:2]]


def pack_stamp(member: Membership, attempt: int) -> int:
    """Pack round and attempt into a stamp of two bytes, which only grows; rounds and attempts are capped."""
    return min(member.round, ROUNDS - 1) * ATTEMPTS_PER_ROUND + min(attempt, ATTEMPTS_PER_ROUND - 1)


def pack_failure(failure: Failure | None) -> str:
    """Pack a failure as JSON; the script adds the time."""
    if failure is None:
        return ""
    record = {k: v for k, v in asdict(failure).items() if k != "failed_at"}
    return json.dumps(record, ensure_ascii=False)  # escapes would take six bytes for a character
