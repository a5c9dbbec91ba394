"""Runs the scripts over one client, and raises what their refusals mean."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Self, TypeVar

from redis import Redis
from redis.exceptions import ReadOnlyError, ResponseError

from celery_batches_notify.errors import NoSuchBatch, SchemaTooNew
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.client import (
    answering_within,
    close,
    close_idle,
    connect,
    longest_call_seconds,
)
from celery_batches_notify.store.errors import corrupt_errors, store_errors, type_errors
from celery_batches_notify.store.keys import SCHEMA, Keys, channel
from celery_batches_notify.store.lists import BatchIndexes
from celery_batches_notify.store.scripts import Argument, Script, Scripts

T = TypeVar("T")
_OWN_SCHEMA = b"%d" % SCHEMA


class StoreBase:
    """The base of every part of the store: the client, the scripts and the lists."""

    def __init__(self, settings: Settings, *, no_retry: bool = False) -> None:
        self.settings = settings
        self._no_retry = no_retry
        self.keys = Keys(settings.prefix)
        os.register_at_fork(after_in_child=_unless_gone(weakref.WeakMethod(self._begin_anew)))

    @property
    def client(self) -> Redis:
        """The client: made at first use, safe to share between threads and over a fork."""
        return self._kept("client", lambda: connect(self.settings, no_retry=self._no_retry))

    @property
    def no_retry(self) -> Self:
        """The same store over connections that ask once and do not wait for long."""
        return self._kept("no_retry", lambda: type(self)(self.settings, no_retry=True))

    def answering_within(self, seconds: float) -> Self:
        """Return this store if its calls take less than that, else one whose connections give up in time."""
        settings = answering_within(self.settings, seconds)
        return self if settings is self.settings else self._kept("prompt", lambda: type(self)(settings))

    @property
    def longest_call_seconds(self) -> float:
        """How many seconds a call takes that is not answered."""
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
        """Close the connections; the next use opens others."""
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
        """Run a script that a retired batch refuses, after putting the batch back on the sweeper's list.

        A sweeper that had read the batch before may retire it again meanwhile, so this is a loop.
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
        """Close idle connections to a server that is no longer the master; new ones reach the present one."""
        try:
            yield
        except ResponseError as exc:
            # `NOREPLICAS`: a master that Sentinel has not demoted yet, as in a planned failover.
            # safety: demoted-master
            if isinstance(exc, ReadOnlyError) or any(word in str(exc) for word in ("READONLY", "NOREPLICAS")):
                close_idle(self.client)
            raise

    def _kept(self, name: str, make: Callable[[], T]) -> T:
        # Without a lock: making a Cluster's client takes a while, and a fork would inherit the lock.
        kept: T | None = self.__dict__.get(name)
        return kept if kept is not None else self.__dict__.setdefault(name, make())

    def _begin_anew(self) -> None:
        """Start anew after a fork: a Cluster's client has locks that a thread of the parent may have held.

        The parent's client is kept alive, because closing it would take these locks; so is its listener,
        because the parent goes on using its sockets.
        """
        # safety: fork-listener
        self._inherited = [self.__dict__.pop(name, None) for name in ("client", "listener")]
        for name in ("scripts", "lists"):
            self.__dict__.pop(name, None)


def _unless_gone(method: weakref.WeakMethod[Callable[[], None]]) -> Callable[[], None]:
    """Return a function that calls a method if its object still lives."""

    def call() -> None:
        if (bound := method()) is not None:
            bound()

    return call


def gone(bid: str) -> NoSuchBatch:
    """Return the error for a batch that does not exist."""
    return NoSuchBatch(f"there is no batch {bid}: it never was, was deleted, or has expired")


def too_new(bid: str) -> SchemaTooNew:
    """Return the error for a batch of a newer schema."""
    return SchemaTooNew(f"batch {bid} was stored by a newer celery-batches-notify: upgrade this process")


def check_values(bid: str, answer: Any) -> Sequence[bytes | None]:
    """Return what HMGET answered about a batch, whose schema is the first field.

    Raises the error that stands in place of an answer, and as `check_schema` does.
    """
    if isinstance(answer, Exception):
        raise answer
    check_schema(bid, answer[0])
    values: Sequence[bytes | None] = answer
    return values


def check_schema(bid: str, schema: bytes | str | None) -> None:
    """Raise `NoSuchBatch` if the batch does not exist, and `SchemaTooNew` if its schema is too new."""
    if schema is None:
        raise gone(bid)
    if schema == _OWN_SCHEMA:  # nearly always, and lists read thousands
        return
    with corrupt_errors(bid):
        if int(schema) > SCHEMA:
            raise too_new(bid)
