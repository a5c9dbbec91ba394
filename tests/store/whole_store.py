"""Everything that the store holds of some batches in one round trip, and what a model says it should hold."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from pathlib import Path
from typing import Any

from redis import Redis
from redis.connection import Connection
from redis.exceptions import NoScriptError

from celery_batches_notify.membership import State
from celery_batches_notify.store.keys import PARTS
from celery_batches_notify.store.packing import pack_id
from celery_batches_notify.store.parsing import Snapshot
from tests.store.model_of_batches import FIRING_ORDER, PARENT, TOO_MANY, ModelBatch

LIVES = {"running": 60_000, "success": 30_000, "dead": 90_000}
AGED_MS = 9_000
MARK = "machine-mark"
DUMP = f"""
local MARK, PARTS = '{MARK}', {{{", ".join(f"'{part}'" for part in PARTS)}}}
{Path(__file__).with_name("dump.lua").read_text()}
"""

Held = dict[str, str]


class WatchingClient(Redis):
    """A client that reads the whole store behind every script, in the same round trip.

    A round trip is what a step costs on a busy machine; and so one sees what each single script leaves.
    """

    bids: Sequence[str] = ()
    _dump_sha = ""
    _current = False

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._readings: list[dict[str, Held]] = []

    def execute_command(self, *args: Any, **options: Any) -> Any:
        self._current = False
        if args[0] != "EVALSHA":
            return super().execute_command(*args, **options)
        pipe = super().pipeline(transaction=False)
        pipe.execute_command(*args, **options)
        answer = self._read_behind(pipe)[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    def pipeline(self, *args: Any, **options: Any) -> Any:
        self._current = False
        return super().pipeline(*args, **options)

    def read(self) -> list[dict[str, Held]]:
        """What there was after each script since the last time, and now, by bid."""
        while not self._current:
            self._dump_sha = super().execute_command("SCRIPT LOAD", DUMP)
            self._read_behind(super().pipeline(transaction=False))
        readings, self._readings = self._readings, []
        return readings

    def _read_behind(self, pipe: Any) -> list[Any]:
        bids = self.bids
        pipe.evalsha(self._dump_sha, 0, *bids)
        *answers, dump = pipe.execute(raise_on_error=False)
        if not isinstance(dump, Exception):
            self._readings.append({bid: _parse(text) for bid, text in zip(bids, dump, strict=True)})
            self._current = True
        elif not isinstance(dump, NoScriptError):
            raise dump
        return answers


class Ear:
    """Hears the tokens of all batches."""

    def __init__(self, client: WatchingClient) -> None:
        options = {k: client.connection_pool.connection_kwargs[k] for k in ("host", "port", "db")}
        self._connection = Connection(**options, protocol=2, socket_timeout=None)
        self._connection.connect()
        self._connection.send_command("PSUBSCRIBE", "batch-*", MARK)
        for _ in range(2):
            self._connection.read_response()

    def close(self) -> None:
        self._connection.disconnect()

    def hear(self) -> dict[str, str]:
        """The tokens of the next script that was read behind, by bid."""
        heard: dict[str, str] = {}
        while True:
            _, pattern, channel, token = self._connection.read_response()
            if pattern == MARK.encode():
                return heard
            bid = channel.decode().removeprefix("batch-")
            heard[bid] = heard.get(bid, "") + token.decode()


@lru_cache(maxsize=2000)
def _parse(text: bytes) -> Held:
    return dict(line.split("\t", 1) for line in text.decode().split("\n"))


@lru_cache(maxsize=1000)
def _packed(task_id: str) -> str:
    return pack_id(task_id).hex()


def expected(batch: ModelBatch, *, live: bool, listed: bool) -> Held:
    """What the store should hold of a batch; times are left out."""
    members = batch.members
    counts = {s.name.lower(): str(batch.count(s)) for s in State if s is not State.WAITING}
    entries = {
        entry: f"{d.state},{d.attempts},{d.when if d.open else '-'},{d.number}"
        f",{'last' if d.last or entry == PARENT else ''}"
        for entry, d in batch.outbox.items()
    }
    kept = {str(i): m.kept for i, m in enumerate(members) if m.kept is not None}
    kept |= {str(i): "-" for i, m in enumerate(members) if m.why not in ("", TOO_MANY)}
    state, had_death = batch.parent_state
    held = counts | {
        "total": str(len(members)),
        "states": "".join(str(int(m.state)) for m in members),
        "stamps": " ".join(str(m.stamp[0] * 4096 + m.stamp[1]) for m in members),
        "members": "".join(_packed(m.task_id) for m in members),
        "outbox": " ".join(sorted(f"{entry}={value}" for entry, value in entries.items())),
        "resend": " ".join(sorted(f"{index}={round_}" for index, round_ in kept.items())),
        "children": str(sum(m.is_batch for m in members)),
        "open": str(batch.open_deliveries),
        "given_up": str(sum(d.state == "given_up" for d in batch.outbox.values())),
        "life": batch.life,
        "sending": batch.sending,
        "had_death": "1" if batch.had_death else "",
        "parent_state": f"{int(state)}{':death' if had_death else ''}" if batch.parent_version else "",
        "parent_version": str(batch.parent_version or ""),
        "retired": "1" if batch.retired else "",
        "unconfirmed": " ".join(sorted(f"{first}={count}" for first, count in batch.unconfirmed.items())),
        "awaited_producers": batch.awaited,
        "cut_short": "1" if batch.cut_short else "",
        "live": str(int(live)),
        "listed": str(int(listed)),
    }
    return held | {f"unsendable:{why}": str(n) for why, n in batch.unsendable.items()}


def snapshot_of(bid: str, held: Held) -> Snapshot:
    """What the store's own readers would get."""
    deliveries = [pair.partition("=") for pair in held["outbox"].split()]
    return Snapshot(
        bid=bid,
        batch={name.encode(): value.encode() for name, value in held.items()},
        outbox={
            entry.encode(): (" ".join(value.split(",")[:2]) + " 0").encode() for entry, _, value in deliveries
        },
        failures={},
        children=int(held["children"]),
        callbacks=held["declared"].encode(),
        now=datetime.now(UTC),
        ttl=timedelta(seconds=1),
    )


def differences(batch: ModelBatch, held: Held, **lists: bool) -> dict[str, tuple[str, str]]:
    """Where a store and a model differ: what is held, and what should be."""
    wrong = {}
    for name, value in expected(batch, **lists).items():
        has = held.get(name, "0" if name in ("open", "given_up") else "")
        if has != value:
            wrong[name] = (has, value)
    fired = {e for e in FIRING_ORDER if ("cancelled_at" if e == "cancel" else f"{e}_at") in held}
    if fired != set(batch.fired):
        wrong["fired"] = (str(fired), str(batch.fired))
    if ("sealed_at" in held) != batch.sealed:
        wrong["sealed"] = (held.get("sealed_at", ""), str(batch.sealed))
    unsendable = {name for name in held if name.startswith("unsendable:")}
    if unsendable != {f"unsendable:{why}" for why in batch.unsendable}:
        wrong["unsendable"] = (str(unsendable), str(batch.unsendable))
    records = frozenset(int(pair.rstrip("=")) for pair in held["failures"].split())
    if records not in batch.failures:
        wrong["failures"] = (str(records), str(batch.failures))
    batch.failures = {records}
    ttls = [int(ttl) for ttl in held["ttls"].split()]
    longest = AGED_MS if batch.low else LIVES[batch.life]
    if not all(longest - 20_000 < ttl <= longest for ttl in ttls) or max(ttls) - min(ttls) > 1000:
        wrong["ttls"] = (held["ttls"], f"up to {longest}")
    return wrong
