"""The names of all keys."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

SCHEMA = 2  # 1 had the callbacks in the hash, where a process that knows only 1 would not find them now
PARTS = (
    "states",
    "members",
    "attempts",
    "late",
    "names",
    "failures",
    "resend",
    "children",
    "outbox",
    "deliveries",
    "unconfirmed",
    "calls",
    "callbacks",
    "curve",
)


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys under one prefix. All keys of one batch share a hash tag, for Redis Cluster."""

    prefix: str

    @property
    def index(self) -> str:
        """The sorted set of all bids by creation, for lists."""
        return f"{self.prefix}:index"

    @property
    def live(self) -> str:
        """The sorted set of bids that are not finished or have open deliveries: the sweeper's list."""
        return f"{self.prefix}:live"

    @property
    def cancelled(self) -> str:
        """The sorted set of cancelled bids by time, which workers read every other second."""
        return f"{self.prefix}:cancelled"

    @property
    def totals(self) -> str:
        """The hash of the counters that all processes share; the braces put it in one slot with `counted`."""
        return f"{self.prefix}:totals:{{totals}}"

    @property
    def counted(self) -> str:
        """The hash of what each batch has added to the counters."""
        return f"{self.totals}:counted"

    @property
    def sweeper(self) -> str:
        """The lock that one sweeper holds at a time."""
        return f"{self.prefix}:sweeper"

    @property
    def app(self) -> str:
        """The broker and the default queue of the app whose worker started last."""
        return f"{self.prefix}:app"

    @property
    def workers(self) -> str:
        """The sorted set of workers by their last heartbeat."""
        return f"{self.prefix}:workers"

    def worker(self, wid: str) -> str:
        """The hash of one worker's tasks in flight."""
        return f"{self.prefix}:worker:{wid}"

    def address(self, key: str) -> tuple[str, str]:
        """The hash of an address of notifications, and the sorted set of deliveries that wait for it."""
        name = f"{self.prefix}:address:{{{key}}}"
        return name, f"{name}:waiting"

    def batch(self, bid: str) -> str:
        """The hash of one batch."""
        return f"{self.prefix}:{{{bid}}}"

    def part(self, bid: str, part: str) -> str:
        """One of the other keys of a batch."""
        return f"{self.batch(bid)}:{part}"

    def of_batch(self, bid: str) -> tuple[str, ...]:
        """All keys of one batch, in the order of the scripts' KEYS."""
        return _of_batch(self, bid)


@lru_cache(maxsize=64)  # most reports of a worker belong to few batches
def _of_batch(keys: Keys, bid: str) -> tuple[str, ...]:
    return (keys.batch(bid), *(keys.part(bid, part) for part in PARTS))


def channel(bid: str) -> str:
    """The channel that carries a batch's tokens."""
    return f"batch-{bid}"
