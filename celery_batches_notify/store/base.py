"""Running the scripts over one client, and what their refusals mean."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from celery_batches_notify.errors import NoSuchBatch, SchemaTooNew
from celery_batches_notify.model import SCHEMA_VERSION
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.client import (
    answering_within,
    close,
    close_idle,
    connect,
    longest_call_seconds,
    store_errors,
)
from celery_batches_notify.store.errors import corrupt_errors, type_errors
from celery_batches_notify.store.keys import Keys, channel
from celery_batches_notify.store.lists import BatchIndexes
from celery_batches_notify.store.scripts import Argument, Script, Scripts

T = TypeVar("T")


class StoreBase:
    """What every part of the store stands on."""

    def __init__(self, settings: Settings, *, no_retry: bool = False) -> None:
        self.settings = settings
        self._no_retry = no_retry
        self.keys = Keys(settings.prefix)
        os.register_at_fork(after_in_child=_unless_gone(weakref.WeakMethod(self._begin_anew)))

    @property
    def client(self) -> Redis:
        """The connections: made at first use, safe to share between threads and over a fork."""
        return self._kept("client", lambda: connect(self.settings, no_retry=self._no_retry))

    @property
    def no_retry(self) -> Self:
        """The same, over connections that ask once and do not wait for long."""
        return self._kept("no_retry", lambda: type(self)(self.settings, no_retry=True))

    def answering_within(self, seconds: float) -> Self:
        """The same, if no call takes longer, or over connections that give up in time."""
        settings = answering_within(self.settings, seconds)
        return self if settings is self.settings else self._kept("prompt", lambda: type(self)(settings))

    @property
    def longest_call_seconds(self) -> float:
        """How long a call takes that nobody answers."""
        return self._kept("longest", lambda: longest_call_seconds(self.settings))

    @property
    def scripts(self) -> Scripts:
        """The scripts over this client."""
        return self._kept("scripts", lambda: Scripts(self.client))

    @property
    def lists(self) -> BatchIndexes:
        """The lists of batches."""
        return self._kept("lists", lambda: BatchIndexes(self.client, self.scripts, self.keys, self.settings))

    def close(self) -> None:
        """Give the connections back; the next use opens others."""
        if "client" in self.__dict__:
            close(self.client)
        for name in {"no_retry", "prompt"} & self.__dict__.keys():
            self.__dict__[name].close()

    def _answer(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        try:
            answer = script(self.keys.of_batch(bid), [channel(bid), *args])
        except Exception:
            with store_errors(self.settings), self._leaving_replicas(), type_errors(bid):
                raise
        if answer[0] == "newer":
            raise too_new(bid)
        return answer

    def _run(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        answer = self._answer(script, bid, *args)
        if answer[0] == "gone":
            raise gone(bid)
        return answer

    def _change(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        """Run a script that a retired batch refuses: it is put back on the sweeper's list first.

        A sweeper that had seen it may retire it again before the script comes.
        """
        while (answer := self._answer(script, bid, *args))[0] == "retired":
            self._revive(bid)
        return answer

    def _revive(self, bid: str) -> None:
        with store_errors(self.settings):
            self.lists.add_live(bid)
        self._answer(self.scripts.revive_batch, bid)
        # Again, because a sweeper that retired it between the two still takes it off the list.
        with store_errors(self.settings):  # safety: revived-listed
            self.lists.add_live(bid)

    @contextmanager
    def _leaving_replicas(self) -> Iterator[None]:
        """Close the idle connections to what was the master once: who is now, answers new ones."""
        try:
            yield
        except ResponseError as exc:
            # `NOREPLICAS`: a master that Sentinel has not demoted yet, as in a planned failover.
            # safety: demoted-master
            if isinstance(exc, ReadOnlyError) or any(word in str(exc) for word in ("READONLY", "NOREPLICAS")):
                close_idle(self.client)
            raise

    def _kept(self, name: str, make: Callable[[], T]) -> T:
        # No lock: to make a Cluster's client takes a while, and a fork meanwhile would inherit it locked.
        kept: T | None = self.__dict__.get(name)
        return kept if kept is not None else self.__dict__.setdefault(name, make())

    def _begin_anew(self) -> None:
        """After a fork: a Cluster's client has locks that another thread of the parent may have held.

        The parent's client is kept, because to close it would take them; so is its listener, because the
        parent goes on using its sockets.
        """
        # safety: fork-listener
        self._inherited = [self.__dict__.pop(name, None) for name in ("client", "listener")]
        for name in ("scripts", "lists"):
            self.__dict__.pop(name, None)


def _unless_gone(method: weakref.WeakMethod[Callable[[], None]]) -> Callable[[], None]:
    """Call a method as long as its object lives."""

    def call() -> None:
        if (bound := method()) is not None:
            bound()

    return call


def gone(bid: str) -> NoSuchBatch:
    """The error for a batch that is not there."""
    return NoSuchBatch(f"there is no batch {bid}: it never was, was deleted, or has expired")


def too_new(bid: str) -> SchemaTooNew:
    """The error for a batch whose keys may mean what we do not know."""
    return SchemaTooNew(f"batch {bid} was stored by a newer celery-batches-notify: upgrade this process")


def check_schema(bid: str, schema: bytes | str | None) -> None:
    """Raise `NoSuchBatch` where there is no batch, and `SchemaTooNew` where it is not for us to read."""
    if schema is None:
        raise gone(bid)
    with corrupt_errors(bid):
        if int(schema) > SCHEMA_VERSION:
            raise too_new(bid)
