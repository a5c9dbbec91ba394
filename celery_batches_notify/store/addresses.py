"""Addresses of notifications in the store: which are left alone, and which deliveries wait for them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from celery_batches_notify.store.base import StoreBase
from celery_batches_notify.store.errors import store_errors

Role = Literal["send", "publish", "wait", "follow", "rest"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """How many seconds an address must be left alone (0: go ahead), and whether the caller then probes it."""

    seconds: float = 0.0
    probes: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Closed:
    """An address that is left alone: for how long, whether this closed it, and who may probe it."""

    seconds: float
    first: bool
    candidates: Sequence[str] = ()


def pack_delivery(bid: str, entry: str) -> str:
    """Return the name of a delivery on the list of those that wait for an address."""
    return f"{bid} {entry}"


def parse_delivery(who: str) -> tuple[str, str]:
    """Return the batch and the entry of a delivery that waits for an address."""
    bid, _, entry = who.partition(" ")
    return bid, entry


class AddressStore(StoreBase):
    """The store's methods for addresses, which fail as a whole. A key names an address."""

    def ask_address(self, key: str, role: Role, who: str = "", *, seconds: float = 0) -> Wait:
        """Ask how long an address must be left alone.

        Args:
            key: The address.
            role: What the caller is about to do: see the script.
            who: The delivery to send, or that waits.
            seconds: How long sending may take.
        """
        with store_errors(self.settings):
            arguments = ["", role, round(seconds * 1000), who]
            word, *left = self.scripts.ask_address(self.keys.address(key), arguments)
        return Wait(seconds=left[0] / 1000, probes=word == "probe") if left else Wait()

    def open_address(self, key: str, *, answered: bool) -> list[str]:
        """Record that an address takes notifications, or is said to; return the deliveries to send now."""
        with store_errors(self.settings):
            word = "answered" if answered else "opened"
            return self.scripts.note_address(self.keys.address(key), ["", word, 0])[1:]

    def close_address(self, key: str, *, busy: bool, seconds: float = 0) -> Closed:
        """Record that an address failed or is busy; leave it alone for so many seconds or longer."""
        with store_errors(self.settings):
            arguments = ["", "busy" if busy else "failed", round(seconds * 1000)]
            _, pause, first, *may_ask = self.scripts.note_address(self.keys.address(key), arguments)
        return Closed(seconds=pause / 1000, first=first == "first", candidates=may_ask)
