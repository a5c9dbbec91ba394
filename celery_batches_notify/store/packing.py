"""Packs members, reports and failures into arguments of the scripts. Pure: no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict
from hashlib import blake2b

from kombu.utils import json

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.fast_eval import Argument

ATTEMPTS_PER_ROUND = 4096
ROUNDS = 16
ID_BYTES = 16
SENDING_MS = 60_000  # how long a process has to send members that it took for another round
JUST_SUCCEEDED = Outcome(state=State.SUCCEEDED)
_UUID_LENGTH = 36
_UUIDS = re.compile(r"(?:[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12})*+")
_UUID = re.compile(r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}")


def pack_id(task_id: str) -> bytes:
    """Return the 16 bytes that stand for a task id: those of the UUID, else a hash of the id."""
    if is_uuid(task_id):
        return bytes.fromhex(task_id.replace("-", ""))
    return blake2b(task_id.encode("utf-8", "surrogatepass"), digest_size=16).digest()


def pack_ids(task_ids: Sequence[str]) -> bytes:
    """Return the 16 bytes of each of these task ids, which are UUIDs nearly always."""
    joined = "".join(task_ids)
    if _UUIDS.fullmatch(joined) and all(len(task_id) == _UUID_LENGTH for task_id in task_ids):
        return bytes.fromhex(joined.replace("-", ""))
    return b"".join(map(pack_id, task_ids))


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


def pack_report(member: Membership, outcome: Outcome, settings: Settings) -> list[Argument]:
    """Pack a report as `shared/report.lua` names it; most successes end after their state."""
    index, packed_id, late_of = pack_member(member)
    if outcome == JUST_SUCCEEDED and not late_of:
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


def pack_stamp(member: Membership, attempt: int) -> int:
    """Pack round and attempt into a stamp of two bytes, which only grows; rounds and attempts are capped."""
    return min(member.round, ROUNDS - 1) * ATTEMPTS_PER_ROUND + min(attempt, ATTEMPTS_PER_ROUND - 1)


def pack_failure(failure: Failure | None) -> str:
    """Pack a failure as JSON; the script adds the time."""
    if failure is None:
        return ""
    record = {k: v for k, v in asdict(failure).items() if k != "failed_at"}
    return json.dumps(record, ensure_ascii=False)  # escapes would take six bytes for a character
