"""Retries in the store: dead members are claimed for another round and sent again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

from celery_batches_notify.errors import BatchCancelled
from celery_batches_notify.store.connection import store_errors
from celery_batches_notify.store.corrupt import readable
from celery_batches_notify.store.runner import Runner, gone

RETRY_CHUNK = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Resend:
    """A member to be sent again: its place, its round, and its call as JSON."""

    index: int
    round: int
    call: str


class RetryStore(Runner):
    """What becomes of dead members, one method per script."""

    def claim_retries(self, bid: str) -> Iterator[list[Resend]]:
        """Move the dead members that can be sent again to failing, and yield them in chunks.

        Raises:
            BatchCancelled: The batch was cancelled.
            NoSuchBatch: The batch is gone.
        """
        for indices in chain([[]], self._walk_kept(bid)):  # at least once, to be refused
            answer = self._change(self.scripts.claim_retries, bid, *indices)
            if answer[0] == "gone":
                raise gone(bid)
            if answer[0] == "cancelled":
                raise BatchCancelled(f"batch {bid} was cancelled: its members are not sent again")
            parts = zip(answer[1::3], answer[2::3], answer[3::3], strict=True)
            yield [Resend(index=i, round=r, call=call) for i, r, call in parts]

    def read_unsent_retries(self, bid: str) -> list[Resend]:
        """Read the members that were claimed for another round and not sent yet."""
        left = []
        with store_errors(self.settings), readable(bid):
            for index, value in self.client.hscan_iter(self.keys.part(bid, "resend")):
                round_, _, call = value.decode().partition(" ")
                if round_.isdigit() and round_ != "0":
                    left.append(Resend(index=int(index), round=int(round_), call=call))
        return left

    def confirm_retries(self, bid: str, sent: Sequence[Resend], *, done: bool) -> None:
        """Note that members were sent again; `done` when none is left to send."""
        pairs = [part for each in sent for part in (each.index, each.round)]
        self._run(self.scripts.confirm_retries, bid, "done" if done else "more", *pairs)

    def _walk_kept(self, bid: str) -> Iterator[list[int]]:
        chunk: list[int] = []
        with store_errors(self.settings), readable(bid):
            for index, value in self.client.hscan_iter(self.keys.part(bid, "resend")):
                if value.startswith(b"0 "):
                    chunk.append(int(index))
                if len(chunk) == RETRY_CHUNK:
                    yield chunk
                    chunk = []
        if chunk:
            yield chunk
