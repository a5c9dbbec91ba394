"""Faults of the broker and the store while batches are filled, before or after a step takes effect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from celery import Celery

from celery_batches_notify.errors import StoreUnavailable

STORE_STEPS = ("open_batch", "enrol_members", "confirm_members", "seal_batch")


class BrokerAway(ConnectionRefusedError):
    """The error of a broker that is away."""


class Faults:
    """The faults of one app: at most one of the broker and one of the store at a time.

    Attributes:
        hits: The steps that were failed, in their order.
    """

    def __init__(self, app: Celery) -> None:
        engine = app._batches_extension.engine
        self._sender, self._store = engine.sender, engine.store
        self._send = self._sender.send
        self.hits: list[str] = []
        self.armed = False

    def break_broker(self, nth: int, *, lasting: bool, arrives: bool) -> None:
        """Refuse the nth message from now on, perhaps also the later ones; it may arrive nevertheless."""
        self._arm("send", self._send, BrokerAway, nth, lasting=lasting, after=arrives, on=self._sender)

    def break_store(self, name: str, nth: int, *, after: bool) -> None:
        """Fail the nth call of a step: before it does anything, or after it, so that the reply is lost."""
        method = getattr(type(self._store), name).__get__(self._store)
        self._arm(name, method, StoreUnavailable, nth, lasting=False, after=after, on=self._store)

    def fix(self) -> None:
        self._sender.__dict__["send"] = self._send
        for name in STORE_STEPS:
            self._store.__dict__.pop(name, None)
        self.armed = False

    def _arm(
        self,
        name: str,
        real: Callable[..., Any],
        error: type[Exception],
        nth: int,
        *,
        lasting: bool,
        after: bool,
        on: object,
    ) -> None:
        calls = 0

        def fails(*args: object, **options: object) -> object:
            nonlocal calls
            calls += 1
            if calls < nth or (calls > nth and not lasting):
                return real(*args, **options)
            self.hits.append(name)
            if after:
                real(*args, **options)
            raise error(f"{name} is away")

        on.__dict__[name] = fails
        self.armed = True
