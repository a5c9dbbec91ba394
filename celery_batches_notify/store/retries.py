"""Retries in the store: dead members are claimed for another round, then sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from celery_batches_notify.errors import BatchCancelled, StoreUnavailable
from celery_batches_notify.store.base import StoreBase, gone
from celery_batches_notify.store.errors import corrupt_errors, store_errors, type_errors
from celery_batches_notify.store.snapshots import read_info

RETRY_CHUNK = 100
FULL_SHARE = 0.9
KEPT = "@"  # in place of a call that `keep_calls` has kept


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """A member to send again: its index, its round, and its call as JSON, or `KEPT`."""

    index: int
    round: int
    call: str


class RetryStore(StoreBase):
    """The store's methods for sending members again."""

    def claim_retries(self, bid: str, only: Sequence[int] | None = None) -> Iterator[list[Resend]]:
        """Move the dead members that can be sent again to failing, and yield them in chunks.

        Args:
            bid: The batch.
            only: The indexes of the members that are meant; None means all.

        Raises:
            BatchCancelled: The batch was cancelled.
            NoSuchBatch: The batch is gone.
        """
        chunks = self._walk_kept(bid) if only is None else _in_chunks(iter(only))
        for indexes in chain([[]], chunks):  # at least once, so that the script can refuse
            answer = self._change(self.scripts.claim_retries, bid, *indexes)
            if answer[0] == "gone":
                raise gone(bid)
            if answer[0] == "cancelled":
                raise BatchCancelled(f"batch {bid} was cancelled: its members are not sent again")
            parts = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
            yield [Resend(index=i, round=r, call=call) for i, r, call in parts]

    def read_unsent_retries(self, bid: str) -> list[Resend]:
        """Read the members that were claimed for another round and not sent yet."""
        left = []
        with store_errors(self.settings), corrupt_errors(bid):
            for index, value in self.client.hscan_iter(self.keys.part(bid, "resend")):
                round_, _, call = value.decode().partition(" ")
                if round_.isdigit() and round_ != "0":
                    left.append(Resend(index=int(index), round=int(round_), call=call))
        return left

    def confirm_retries(self, bid: str, sent: Sequence[Resend], *, done: bool) -> None:
        """Record that members were sent again; `done` if none is left to send."""
        pairs = [part for each in sent for part in (each.index, each.round)]
        self._run(self.scripts.confirm_retries, bid, "done" if done else "more", *pairs)

    def keep_calls(self, bid: str, first: int, calls: Sequence[bytes]) -> None:
        """Keep the calls of the members from index `first` on. Raises `NoSuchBatch`."""
        pairs = [part for index, call in enumerate(calls, first) for part in (index, call)]
        for start in range(0, len(pairs), 2 * RETRY_CHUNK):
            self._run(self.scripts.keep_calls, bid, *pairs[start : start + 2 * RETRY_CHUNK])

    def read_kept_calls(self, bid: str, indexes: Sequence[int]) -> list[bytes | None]:
        """Read the kept calls of these members."""
        if not indexes:
            return []
        with store_errors(self.settings), type_errors(bid):
            found: Any = self.client.hmget(self.keys.part(bid, "calls"), [str(index) for index in indexes])
        return list(found)

    def keeps_calls(self, bid: str) -> bool:
        """Whether the batch keeps the calls of its members."""
        with store_errors(self.settings):
            return self.client.hget(self.keys.batch(bid), "keep_calls") == b"1"

    def check_room(self) -> None:
        """Raise `StoreUnavailable` if the store is nearly full, and would soon refuse kept calls."""
        with store_errors(self.settings):
            info: Any = read_info(self.client, self.keys.live, "memory")
        used, most = int(info.get("used_memory", 0)), int(info.get("maxmemory", 0))
        # safety: full-store-refuses
        if info.get("maxmemory_policy") == "noeviction" and most and used > most * FULL_SHARE:
            raise StoreUnavailable(
                f"the store is nearly full ({used:,} of {most:,} bytes), and keep_calls would fill it: "
                "nothing was enrolled; raise its maxmemory, or leave keep_calls out"
            )

    def _walk_kept(self, bid: str) -> Iterator[list[int]]:
        kept = (index for index, value in self._scan(bid, "resend") if value.startswith(b"0 "))
        beside = (index for index, _ in self._scan(bid, "calls", values=False))
        yield from _in_chunks(chain(kept, beside))

    def _scan(self, bid: str, part: str, *, values: bool = True) -> Iterator[tuple[int, bytes]]:
        with store_errors(self.settings), corrupt_errors(bid):
            for index, value in self.client.hscan_iter(self.keys.part(bid, part)):
                yield int(index), value if values else b""


def _in_chunks(indexes: Iterator[int]) -> Iterator[list[int]]:
    while chunk := list(islice(indexes, RETRY_CHUNK)):
        yield chunk
