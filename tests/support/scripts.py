"""One batch in a store and the outcomes of its members, shared by the tests of the scripts."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from uuid import uuid4

from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.store import Store
from tests.support.servers import Ear

BID = "0123456789abcdefABCDEF"
LIVES = {"expires": 60_000, "linger": 30_000, "dead_expires": 90_000}
SUCCEEDED = Outcome(state=State.SUCCEEDED)


def open_batch(store: Store, members: int = 0, *, bid: str = BID, **fields: object) -> list[Membership]:
    callbacks = {f"callbacks:{event}": 1 for event in ("death", "complete", "finish", "success")}
    store.open_batch(bid, {**LIVES, **callbacks, "tags": "[]", **fields})
    ids = [str(uuid4()) for _ in range(members)]
    first = store.enrol_members(bid, 0, ids, "owner") if ids else 0
    return [Membership(bid=bid, index=first + i, task_id=task_id) for i, task_id in enumerate(ids)]


def ended(state: State, attempt: int = 1, reason: str = "failed", message: str = "no") -> Outcome:
    failure = Failure(
        task_id="x", task="t", error_class="E", error_message=message, backtrace=None, retries=attempt - 1
    )
    return Outcome(state=state, attempt=attempt, reason=reason, failure=failure)


def failing(attempt: int = 1) -> Outcome:
    return ended(State.FAILING, attempt)


def dead(attempt: int = 1, reason: str = "failed") -> Outcome:
    return ended(State.DEAD, attempt, reason)


def counts(store: Store, bid: str = BID) -> tuple[int, int, int, int]:
    status = store.read_status(bid)
    return status.total, status.succeeded, status.failing, status.dead


def dump(store: Store) -> dict[bytes, object]:
    """Return the content of all keys of a batch, without the times."""
    held: dict[bytes, object] = {}
    for key in sorted(store.client.scan_iter("batches:{*")):
        kind = store.client.type(key)
        if kind == b"hash":
            held[key] = {k: v for k, v in store.client.hgetall(key).items() if not k.endswith(b"_at")}
        elif kind == b"list":
            held[key] = store.client.llen(key)
        else:
            held[key] = store.client.get(key)
    return held


@contextmanager
def listening(store: Store) -> Iterator[Callable[[], str]]:
    ear = Ear(store.client)

    def heard() -> str:
        ear.tokens.clear()
        return "".join(ear.listen().values())

    try:
        yield heard
    finally:
        ear.close()


def together(*calls: Callable[[], object]) -> list[object]:
    """Run calls at the same time, each in a thread."""
    barrier = threading.Barrier(len(calls))
    results: list[object] = [None] * len(calls)

    def run(i: int, call: Callable[[], object]) -> None:
        barrier.wait()
        try:
            results[i] = call()
        except Exception as exc:
            results[i] = exc

    threads = [threading.Thread(target=run, args=(i, call)) for i, call in enumerate(calls)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def due_now(store: Store) -> None:
    """End the leases of all deliveries."""
    outbox = store.keys.part(BID, "outbox")
    for entry, value in store.client.hgetall(outbox).items():
        state, attempts, _, *claim = value.split(b" ")
        store.client.hset(outbox, entry, b" ".join([state, attempts, b"1", *claim]))


def outbox(store: Store) -> dict[str, str]:
    held = store.client.hgetall(store.keys.part(BID, "outbox"))
    return {k.decode(): " ".join(v.decode().split()[:2]) for k, v in held.items()}


def lives_of(store: Store) -> list[int]:
    """Return the time to live of each key of the batch, all read at the same moment."""
    with store.client.pipeline() as pipe:
        for key in store.keys.of_batch(BID):
            pipe.pttl(key)
        return [life for life in pipe.execute() if life != -2]
