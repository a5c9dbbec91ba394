"""Repairs in the store: lists that lost a batch, events that did not fire, members that have vanished."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

from redis.client import Pipeline

from celery_batches_notify.errors import CorruptBatch
from celery_batches_notify.model import Failure
from celery_batches_notify.store import packing
from celery_batches_notify.store.base import StoreBase, gone
from celery_batches_notify.store.errors import store_errors, type_errors
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.store.recorded import Recorded, first_claims, parse_recorded
from celery_batches_notify.store.snapshots import read_together

KEYS_PAGE = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """A vanished member, as it was when it was looked for."""

    member: Member
    failure: Failure


@dataclass(frozen=True, slots=True, kw_only=True)
class Neglected:
    """A batch that gave up callbacks, or, if `is_unlisted`, that the sweepers' list has lost."""

    bid: str
    is_unlisted: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOff(Recorded):
    """How many members were marked dead, and the deliveries that this made due."""

    count: int


class RepairStore(StoreBase):
    """The store's methods for `reconcile` and `doctor`, and for notes of what was done by hand."""

    def restore_lists(self, bid: str) -> int:
        """Put a batch back on the lists that have lost it; return how many had.

        Raises:
            NoSuchBatch: The batch is gone. It is taken off the lists, unless it was put there just now.
        """
        with store_errors(self.settings):
            created_at, retired = self.client.hmget(self.keys.batch(bid), ["created_at", "retired"])
            if created_at is None:
                self.lists.drop_gone(bid)
                raise gone(bid)
            return self.lists.restore(bid, int(created_at), live=not retired)

    def walk_unlisted(self) -> Iterator[str]:
        """Search the whole store, a thousand keys at a time, for batches that a list has lost."""
        prefix, end = self.keys.batch("\n").split("\n")
        with store_errors(self.settings):
            keys: Iterator[Any] = self.client.scan_iter(match=f"{prefix}*{end}", count=KEYS_PAGE)
            for key in keys:
                bid = key.decode("utf-8", "replace").removeprefix(prefix).removesuffix(end)
                # safety: off-live-found
                if self.client.zscore(self.keys.index, bid) is None or self._is_off_live(bid):
                    yield bid

    def walk_neglected(self) -> Iterator[Neglected]:
        """Search the list of all batches, a page at a time, for neglected ones."""
        with store_errors(self.settings):
            for listed in self.lists.walk_newest():
                page = [bid for bid, _ in listed]
                _, answers = read_together(self.client, partial(self._read_neglect, page))
                for bid, live, batch in zip(page, answers[::2], answers[1::2], strict=True):
                    created, retired, given_up = (None,) * 3 if isinstance(batch, Exception) else batch
                    # Read once more, one after the other: it may just have ended, or come back.
                    unlisted = created is not None and live is None and not retired and self._is_off_live(bid)
                    if unlisted or given_up not in (None, b"0"):  # safety: given-up-named
                        yield Neglected(bid=bid, is_unlisted=unlisted)

    def walk_undelivered(self) -> Iterator[str]:
        """Search the list of all batches, a page at a time, for those with callbacks open or given up."""
        with store_errors(self.settings):
            for listed in self.lists.walk_newest():
                page = [bid for bid, _ in listed]
                _, answers = read_together(self.client, partial(self._count_deliveries, page))
                for bid, counts in zip(page, answers, strict=True):
                    if isinstance(counts, Exception) or {*counts} - {None, b"0"}:
                        yield bid

    def _read_neglect(self, bids: Sequence[str], pipe: Pipeline) -> None:
        for bid in bids:
            pipe.zscore(self.keys.live, bid)
            pipe.hmget(self.keys.batch(bid), ["created_at", "retired", "given_up"])

    def _count_deliveries(self, bids: Sequence[str], pipe: Pipeline) -> None:
        for bid in bids:
            pipe.hmget(self.keys.batch(bid), ["open", "given_up"])

    def _is_off_live(self, bid: str) -> bool:
        """Whether a batch that is not over has been lost from the sweepers' list."""
        if self.client.zscore(self.keys.live, bid) is not None:
            return False
        with suppress(CorruptBatch), type_errors(bid):
            created, retired = self.client.hmget(self.keys.batch(bid), ["created_at", "retired"])
            return created is not None and not retired
        return True  # so that the corrupt batch is seen

    def claim_examination(self, bid: str, quiet_seconds: float) -> bool:
        """Claim a batch that has not moved for so long, to examine it; return whether the caller got it."""
        answer = self._answer(self.scripts.claim_examination, bid, round(quiet_seconds * 1000))
        return bool(answer[0] == "claimed")

    def conclude_batch(self, bid: str) -> Recorded:
        """Fire the events that are true and have not fired; return the deliveries that this made due."""
        recorded = parse_recorded(self._run(self.scripts.renew_batch, bid, 0))
        if recorded.due:
            self._revive(bid)
        return recorded

    def write_off_members(self, bid: str, lost: Sequence[Lost]) -> WrittenOff:
        """Mark vanished members dead; return how many."""
        args = [
            part
            for each in lost
            for part in (
                each.member.index,
                packing.pack_id(each.member.id),
                each.member.stamp,
                packing.pack_failure(each.failure),
            )
        ]
        answer = self._run(self.scripts.write_off_members, bid, self.settings.failures_kept, *args)
        return WrittenOff(word=answer[0], count=answer[1], due=first_claims(answer[2:]))

    def are_late(self, bid: str, task_ids: Sequence[str]) -> list[bool]:
        """Whether each of these tasks is a member that a report enrolled."""
        if not task_ids:
            return []
        packed: Any = [packing.pack_id(task_id) for task_id in task_ids]
        with store_errors(self.settings):
            found: Any = self.client.hmget(self.keys.part(bid, "late"), packed)
        return [index is not None for index in found]

    def has_canvas(self, bid: str) -> bool:
        """Whether members of the batch carry further members with them."""
        with store_errors(self.settings):
            canvas, late = self.client.hmget(self.keys.batch(bid), ["canvas", "late"])
        return bool(canvas or late)

    def note_action(self, bid: str, note: str) -> None:
        """Keep a note, as JSON that no other equals, of what was done by hand. Raises `NoSuchBatch`."""
        self._run(self.scripts.note_action, bid, note)
