"""The Lua scripts: one handle each, which takes keys and arguments and returns words."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, Protocol

from redis import Redis
from redis.exceptions import NoScriptError

from celery_batches_notify.membership import State
from celery_batches_notify.store.fast_eval import Argument as Argument
from celery_batches_notify.store.fast_eval import FastEval
from celery_batches_notify.store.keys import SCHEMA
from celery_batches_notify.store.packing import (
    ATTEMPTS_AT_MOST,
    ATTEMPTS_PER_ROUND,
    CALLBACKS_AT_MOST,
    ID_BYTES,
    LOG_LENGTH,
    ROUNDS,
    SENDING_MS,
)

_CONSTANTS = {
    "SCHEMA": SCHEMA,
    **State.__members__,
    "ID_BYTES": ID_BYTES,
    "ROUND": ATTEMPTS_PER_ROUND,
    "LAST_ROUND": ROUNDS - 1,
    "SENDING_MS": SENDING_MS,
    "ATTEMPTS_AT_MOST": ATTEMPTS_AT_MOST,
    "CALLBACKS_AT_MOST": CALLBACKS_AT_MOST,
    "LOG_LENGTH": LOG_LENGTH,
}
_CONSTANTS_LINE = f"local {', '.join(_CONSTANTS)} = {', '.join(str(int(n)) for n in _CONSTANTS.values())}"


class Script(Protocol):
    """One script, which is loaded again if the server has forgotten it."""

    def __call__(self, keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
        """Run the script; the first element of its answer is a word."""
        ...


class Scripts:
    """All scripts of the store, over one client."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._fast_eval = FastEval(client)
        self._prelude = "\n".join(map(_read_shared, ("batch", "outbox", "events")))
        self.open_batch = self._load("producers", "open_batch")
        self.enrol_members = self._load("members", "successors", "producers", "enrol_members")
        self.confirm_members = self._load("producers", "confirm_members")
        self.seal_batch = self._load("producers", "seal_batch")
        self.abandon_batch = self._load("abandon_batch")
        self.record_outcome = self._load(
            *("members", "failures", "resend", "successors", "chords", "report", "record_outcome"),
            short_way=("plain", "plain_success"),
        )
        self.record_successes = self._load("record_successes", short_way=("plain",), whole=False)
        self.enrol_successors = self._load("members", "successors", "report", "enrol_successors")
        self.claim_deliveries = self._load("claim_deliveries")
        self.settle_delivery = self._load("settle_delivery")
        self.retire_batch = self._load("retire_batch")
        self.revive_batch = self._load("revive_batch")
        self.cancel_batch = self._load("cancel_batch")
        self.record_death = self._load("record_death")
        self.renew_batch = self._load("renew_batch")
        self.check_watches = self._load("check_watches")
        self.claim_retries = self._load("members", "resend", "claim_retries")
        self.keep_calls = self._load("keep_calls")
        self.claim_examination = self._load("claim_examination")
        self.confirm_retries = self._load("confirm_retries")
        self.redeliver_event = self._load("redeliver_event")
        self.ask_address = self._load("ask_address")
        self.note_address = self._load("note_address")
        self.drop_entries = self._load("drop_entries")
        self.note_canvas = self._load("note_canvas")
        self.write_off_members = self._load("members", "failures", "resend", "write_off_members")
        self.beat_worker = self._load("beat_worker")
        self.note_action = self._load("note_action")
        self.find_silent = self._load("find_silent")
        self.resend_lost = self._load(
            *("members", "failures", "resend", "successors", "report", "resend_lost")
        )
        self.put_on_list = self._load("put_on_list")
        self.prolong_list = self._load("prolong_list")
        self.count_batches = self._load("count_batches")
        self.read_fields = self._load("read_fields")
        self.forget_batches = self._load("forget_batches")
        self.hold_lock, self.release_lock = self._load("hold_lock"), self._load("release_lock")

    def _load(self, *shared_and_own: str, short_way: Sequence[str] = (), whole: bool = True) -> Script:
        """Load a script, which comes last, after the parts that it shares with others.

        A short way stands before all of them, because reading them takes longer than what most calls do. A
        script that is not `whole` is a short way itself.
        """
        *shared, own = shared_and_own
        first = [_CONSTANTS_LINE, *map(_read_shared, ("marks", *short_way))]
        text = "\n".join([*first, self._prelude if whole else "", *map(_read_shared, shared), _read(own)])
        digest = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()

        def run(keys: Sequence[str], args: Sequence[Argument]) -> list[Any]:
            try:
                answer: Any = self._fast_eval.evalsha(digest, keys, args)
            except NoScriptError:  # asks only this server, even if others of a Cluster are away
                answer = self._client.eval(text, len(keys), *keys, *args)
            if isinstance(answer, bytes):  # a status: the word alone
                return [answer.decode()]
            return [part.decode() if isinstance(part, bytes) else part for part in answer]

        return run


def _read(*path: str) -> str:
    return files(__package__).joinpath(*path[:-1], f"{path[-1]}.lua").read_text("utf-8")


def _read_shared(name: str) -> str:
    return _read("shared", name)
