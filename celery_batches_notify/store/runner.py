"""Running the scripts over one client, and what their refusals mean."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from redis import Redis

from celery_batches_notify.errors import NoSuchBatch, SchemaTooNew
from celery_batches_notify.settings import Settings
from celery_batches_notify.store.connection import connect, store_errors
from celery_batches_notify.store.keys import Keys, channel
from celery_batches_notify.store.lists import Lists
from celery_batches_notify.store.scripts import Argument, Script, Scripts


class Runner:
    """What every part of the store stands on."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.prefix)

    @cached_property
    def client(self) -> Redis:
        """The connection pool: made at first use, safe to share between threads and over a fork."""
        return connect(self.settings)

    @cached_property
    def scripts(self) -> Scripts:
        """The scripts over this client."""
        return Scripts(self.client)

    @cached_property
    def lists(self) -> Lists:
        """The lists of batches."""
        return Lists(self.client, self.scripts, self.keys, self.settings)

    def close(self) -> None:
        """Give the connections back; the next use opens others."""
        if "client" in self.__dict__:
            self.client.close()

    def _answer(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        with store_errors(self.settings):
            answer = script(self.keys.of_batch(bid), [channel(bid), *args])
        if answer[0] == "newer":
            raise SchemaTooNew(
                f"batch {bid} was stored by a newer celery-batches-notify: upgrade this process"
            )
        return answer

    def _run(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        answer = self._answer(script, bid, *args)
        if answer[0] == "gone":
            raise gone(bid)
        return answer

    def _change(self, script: Script, bid: str, *args: Argument) -> list[Any]:
        """Run a script that a retired batch refuses: it is put back on the sweeper's list first."""
        answer = self._answer(script, bid, *args)
        if answer[0] == "retired":
            with store_errors(self.settings):
                self.lists.add_live(bid)
            self._answer(self.scripts.revive_batch, bid)
            answer = self._answer(script, bid, *args)
        return answer


def gone(bid: str) -> NoSuchBatch:
    """The error for a batch that is not there."""
    return NoSuchBatch(f"there is no batch {bid}: it never was, was deleted, or has expired")
