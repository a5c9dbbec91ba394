"""Everything that the store holds of some batches in one round trip, and what a model says it should hold."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from model_of_batches import FIRING_ORDER, ModelBatch
from redis import Redis

from celery_batches_notify.model import State
from celery_batches_notify.store.keys import PARTS
from celery_batches_notify.store.reading import pack_id

LIVES = {"running": 60_000, "success": 30_000, "dead": 90_000}
AGED_MS = 9_000
MARK = "machine-mark"

Held = dict[str, str]


class WholeStore:
    """Reads batches as they lie in the store, and hears their tokens."""

    def __init__(self, client: Redis) -> None:
        self._dump = client.register_script(Path(__file__).with_name("dump.lua").read_text())
        self._pubsub = client.pubsub(ignore_subscribe_messages=True)
        self._pubsub.psubscribe("batch-*")
        self._pubsub.subscribe(MARK)

    def close(self) -> None:
        self._pubsub.close()

    def read(self, bids: Sequence[str]) -> dict[str, Held]:
        """What each batch holds, by name."""
        answer = self._dump(args=[MARK, len(PARTS), *PARTS, *bids])
        return {bid: _parse(text) for bid, text in zip(bids, answer, strict=True)}

    def hear(self) -> dict[str, str]:
        """The tokens since the last time, by bid, up to the mark of the last `read`."""
        heard: dict[str, str] = {}
        while True:
            message = self._pubsub.get_message(timeout=5)
            if message is None:
                continue
            channel = message["channel"].decode()
            if channel == MARK:
                return heard
            bid = channel.removeprefix("batch-")
            heard[bid] = heard.get(bid, "") + message["data"].decode()


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
        entry: f"{d.state},{d.attempts},{d.when if d.state == 'due' else '-'}" for entry, d in batch.outbox.items()
    }
    kept = {str(i): m.kept for i, m in enumerate(members) if m.kept is not None}
    told, died = batch.told
    held = counts | {
        "total": str(len(members)),
        "states": "".join(str(int(m.state)) for m in members),
        "stamps": " ".join(str(m.stamp[0] * 4096 + m.stamp[1]) for m in members),
        "members": "".join(_packed(m.task_id) for m in members),
        "outbox": " ".join(sorted(f"{entry}={value}" for entry, value in entries.items())),
        "resend": " ".join(sorted(f"{index}={round_}" for index, round_ in kept.items())),
        "children": str(sum(m.is_batch for m in members)),
        "open": str(batch.open_deliveries),
        "life": batch.life,
        "sending": batch.sending,
        "died": "1" if batch.died else "",
        "told": f"{int(told)}{':died' if died else ''}" if batch.tellings else "",
        "tellings": str(batch.tellings or ""),
        "retired": "1" if batch.retired else "",
        "live": str(int(live)),
        "listed": str(int(listed)),
    }
    return held | {f"unsendable:{why}": str(n) for why, n in batch.unsendable.items()}


def differences(batch: ModelBatch, held: Held, **lists: bool) -> dict[str, tuple[str, str]]:
    """Where a store and a model differ: what is held, and what should be."""
    wrong = {}
    for name, value in expected(batch, **lists).items():
        has = held.get(name, "0" if name == "open" else "")
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
