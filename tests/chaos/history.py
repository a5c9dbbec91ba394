"""A batch's whole life as the append-only file has it, cut off after any of its steps."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis

from celery_batches_notify.membership import State
from celery_batches_notify.store.store import Store

Command = list[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """What became true at once: the commands of one script, and where in the file it ends."""

    commands: list[Command]
    end: int


def read_steps(data: bytes) -> Iterator[Step]:
    """Take an append-only file apart: a script is all that stands between MULTI and EXEC."""
    open_: list[Command] | None = None
    at = 0
    while at < len(data):
        command, at = _read_command(data, at)
        word = command[0].upper()
        if word == b"MULTI":
            open_ = []
        elif word == b"EXEC":
            yield Step(commands=open_ or [], end=at)
            open_ = None
        elif open_ is not None:
            open_.append(command)
        else:
            yield Step(commands=[command], end=at)


def _read_command(data: bytes, at: int) -> tuple[Command, int]:
    if data[at : at + 1] == b"#":  # a note of when it was
        return [b"#"], data.index(b"\r\n", at) + 2
    line = data.index(b"\r\n", at)
    count, at = int(data[at + 1 : line]), line + 2
    words = []
    for _ in range(count):
        line = data.index(b"\r\n", at)
        length, at = int(data[at + 1 : line]), line + 2
        words.append(data[at : at + length])
        at += length + 2
    return words, at


def replay(client: Redis, step: Step) -> None:
    """Do what a step did."""
    for command in step.commands:
        if command[0] != b"#":
            client.execute_command(*command)


def find_what_is_early(store: Store, bid: str) -> list[str]:
    """Everything that a batch says and that is not so: it may know too little, and never too much."""
    batch = store.client.hgetall(store.keys.batch(bid))
    if not batch:
        return []
    total, succeeded, failing, dead = (int(batch[f]) for f in (b"total", b"succeeded", b"failing", b"dead"))
    states = [m.state for chunk in store.walk_members(bid, total) for m in chunk]
    wrong = []
    counted = [states.count(state) for state in (State.SUCCEEDED, State.FAILING, State.DEAD)]
    if counted != [succeeded, failing, dead] or len(states) != total:
        wrong.append(f"counts {counted} of {len(states)} beside {[succeeded, failing, dead]} of {total}")
    waiting = states.count(State.WAITING)
    fired = {event for event in ("death", "complete", "finish", "success") if f"{event}_at".encode() in batch}
    if fired and b"sealed_at" not in batch:
        wrong.append(f"{fired} before the seal")
    if "complete" in fired and waiting:
        wrong.append(f"complete, and {waiting} wait")
    if "finish" in fired and counted[0] + counted[2] < total:
        wrong.append("finished, and some may still run")
    if "success" in fired and succeeded < total:
        wrong.append("success, and not all have succeeded")
    entries = {key.decode() for key in store.client.hkeys(store.keys.part(bid, "outbox"))}
    if {entry.partition(":")[0] for entry in entries} != fired:
        wrong.append(f"fired {fired}, and the outbox has {entries}")
    return wrong
