"""Thousands of deliveries over receivers that come and go; processes stall or die between any two steps.

Scaled down; `BATCHES_CHAOS_SCALE=full` runs all of it. The store is real; the broker is a list, so that the
test sees which messages there are. Time goes by where the test says so: it writes other times into the store.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import pytest
from celery import Celery

from celery_batches_notify import Batch, NotificationFailed
from celery_batches_notify.delivery.publisher import Publisher, _BrokerAway
from celery_batches_notify.messages.headers import DELIVER_TASK, HEADER, DeliveryRef, callback_id, read_header
from celery_batches_notify.model import Notification
from celery_batches_notify.store.store import Store

FULL = os.environ.get("BATCHES_CHAOS_SCALE") == "full"
ADDRESSES = 12
STORE_STEPS = ("read_snapshot", "ask_address", "close_address", "open_address", "claim_waiting")


class Killed(BaseException):
    """The process that did this is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """A message at the broker: of a notification, or of a task of the user's."""

    ref: DeliveryRef
    notifies: bool


@dataclass
class World:
    """Receivers, a broker, and the fate of processes."""

    random: random.Random
    down: set[str] = field(default_factory=set)
    arrived: Counter[str] = field(default_factory=Counter)
    broker: list[Sent] = field(default_factory=list)
    later: list[Sent] = field(default_factory=list)  # that the broker holds back for a while
    stalled: list[Callable[[], object]] = field(default_factory=list)
    messages: int = 0
    harm: float = 0.0  # how often a process dies at a step; it stalls ten times as often
    kinds: list[dict[str, Any]] = field(
        default_factory=lambda: [{}, {"status_code": 429, "retry_after": 1.0}, {"alone": True}]
    )

    def may_die(self) -> None:
        if self.random.random() < self.harm:
            raise Killed


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """A notifier whose receiver is the test's world."""

    name: ClassVar[str] = "receiver"
    secrets: ClassVar[frozenset[str]] = frozenset()
    credentials: ClassVar[frozenset[str]] = frozenset()
    world: ClassVar[World]
    url: str

    def send(self, notification: Notification) -> str:
        world = self.world
        world.may_die()
        if self.url in world.down:
            raise NotificationFailed("down", **world.random.choice(world.kinds))
        world.arrived[notification.id] += 1
        world.may_die()
        return "ok"


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    world = World(random=random.Random(20_000))
    monkeypatch.setattr(Receiver, "world", world, raising=False)

    def send(self: Publisher, call: Any, args: tuple[Any, ...], **options: Any) -> None:
        world.may_die()
        if world.random.random() < world.harm:
            raise _BrokerAway("away")
        ref = read_header(options["headers"][HEADER], options["task_id"])
        queue = world.later if options.get("countdown") else world.broker
        queue.append(Sent(ref=ref, notifies=call.name == DELIVER_TASK))
        world.messages += 1
        world.may_die()

    monkeypatch.setattr(Publisher, "_send", send)
    for name in STORE_STEPS:
        monkeypatch.setattr(Store, name, dying(world, getattr(Store, name)))
    settle = Store.settle_delivery

    def settle_or_stall(self: Store, *args: Any, **options: Any) -> str:
        """Make a process stall before it notes a result, for as long as the test wants."""
        if world.random.random() < 10 * world.harm:
            world.stalled.append(lambda: settle(self, *args, **options))
            return "settled"
        world.may_die()
        return settle(self, *args, **options)

    monkeypatch.setattr(Store, "settle_delivery", settle_or_stall)
    return world


def dying(world: World, method: Callable[..., Any]) -> Callable[..., Any]:
    def step(self: Store, *args: Any, **options: Any) -> Any:
        world.may_die()
        answer = method(self, *args, **options)
        world.may_die()
        return answer

    return step


@pytest.fixture
def app(make_app: Callable[..., Celery], world: World) -> Celery:
    app = make_app(batches_notifiers={"receiver": f"{__name__}.Receiver"})
    app.task(told, name="told", shared=False)
    return app


def told(*_: object) -> None:
    """Be called back."""


def url_of(n: int) -> str:
    return f"http://host{n % ADDRESSES}.test/hook"


def fire(app: Celery, batches: int, callbacks: int, url: Callable[[int], str]) -> list[Batch]:
    made = []
    for _ in range(batches):
        batch = Batch(app=app)
        for n in range(callbacks):
            if n % 8 == 7:
                batch.on("complete", app.tasks["told"].s())
            else:
                batch.on("complete", "receiver", url=url(n))
        made.append(batch)
    for batch in made:
        outlive(batch.seal)
    return made


def outlive(step: Callable[[], object]) -> bool:
    """Run one step of a process; return whether it survived."""
    try:
        step()
    except Killed:
        return False
    return True


def run_one(app: Celery, world: World, place: int) -> None:
    """Run a message in a worker; if the worker dies, the message goes back, and the worker may be missed."""
    sent = world.broker.pop(place)
    ref, engine = sent.ref, app._batches_extension.engine

    def settle(happened: str) -> bool:
        return outlive(
            lambda: engine.store.settle_delivery(
                ref.bid, ref.entry, happened, 0, delay_seconds=5, number=ref.number
            )
        )

    if not sent.notifies:
        happened = world.random.choice(["delivered", "delivered", "given_up", "lost", "retried"])
        world.arrived[callback_id(ref.bid, ref.entry)] += happened == "delivered"
        if not settle(happened) or happened == "retried":
            world.broker.append(sent)
    elif not outlive(lambda: engine.attempts.run(ref.bid, ref.entry, ref.number)):
        world.broker.append(sent)
        if world.random.random() < 0.5:
            settle("lost")


def entries_of(store: Store, batches: list[Batch]) -> Iterator[tuple[str, str, list[str]]]:
    with store.client.pipeline(transaction=False) as pipe:
        for batch in batches:
            pipe.hgetall(store.keys.part(batch.bid, "outbox"))
        answers = pipe.execute()
    for batch, held in zip(batches, answers, strict=True):
        for entry, value in held.items():
            yield batch.bid, entry.decode(), value.decode().split()


def let_time_come(app: Celery, batches: list[Batch], *, share: float = 1.0, last: bool = False) -> None:
    """Make later deliveries due now and end all pauses, or make the last attempts due."""
    store = app._batches_extension.engine.store
    Receiver.world.broker += Receiver.world.later
    Receiver.world.later.clear()
    chance = random.Random(1)
    with store.client.pipeline(transaction=False) as pipe:
        for bid, entry, value in entries_of(store, batches):
            if value[0] not in ("due", "published") or chance.random() > share:
                continue
            if value[0] == "due":
                value[2] = "1"
            if last and value[4] != "0":
                value[4] = "1"
            pipe.hset(store.keys.part(bid, "outbox"), entry, " ".join(value))
        for key in store.client.scan_iter("batches:address:*"):
            if store.client.type(key) == b"hash":
                pipe.hset(key, mapping={"until_at": 1, "published_until": 1})
        pipe.execute()


def sweep(app: Celery, batches: list[Batch]) -> None:
    engine = app._batches_extension.engine
    for batch in batches:
        outlive(lambda bid=batch.bid: engine.publisher.publish(bid, engine.store.claim_deliveries(bid)))


def states(app: Celery, batches: list[Batch]) -> Counter[str]:
    return Counter(value[0] for _, _, value in entries_of(app._batches_extension.engine.store, batches))


def come_to_rest(app: Celery, world: World) -> None:
    """Let stalled processes go on, and run every message."""
    while world.stalled or world.broker:
        while world.stalled:
            world.stalled.pop(world.random.randrange(len(world.stalled)))()
        if world.broker:
            run_one(app, world, 0)


def test_every_delivery_is_delivered_or_given_up_even_if_processes_stall_or_die(
    app: Celery, world: World
) -> None:
    count = 625 if FULL else 8
    world.harm = 0.02
    batches = fire(app, count, 32, url_of)
    for _ in range(20):
        world.down = {url_of(n) for n in range(ADDRESSES) if world.random.random() < 0.4}
        for _ in range(min(len(world.broker), count * 8)):
            if world.broker:
                run_one(app, world, world.random.randrange(len(world.broker)))
            if world.stalled and world.random.random() < 0.2:
                world.stalled.pop(world.random.randrange(len(world.stalled)))()
        let_time_come(app, batches, share=0.7)
        sweep(app, batches)
    world.harm = 0.0
    come_to_rest(app, world)
    found = states(app, batches)
    assert not found["published"], "nobody has what counts as published: it is lost"
    for _ in range(12):
        let_time_come(app, batches, last=True)
        sweep(app, batches)
        come_to_rest(app, world)
    found = states(app, batches)
    print(f"{found.total():,} deliveries, {world.messages:,} messages: {dict(found)}")
    assert found.total() == count * 32
    assert set(found) == {"delivered", "given_up"}
    for batch in batches:
        for callback in batch.status().callbacks:
            arrived = world.arrived[f"cb_{batch.bid}_complete_{callback.n}"]
            assert arrived or callback.state == "given_up", "what counts as delivered has arrived"


def test_deliveries_to_a_host_that_is_gone_cost_few_messages_and_all_end_in_time(
    app: Celery, world: World
) -> None:
    """A pause of its own for each, and a message at the end of it, would be 37 messages each."""
    count = 5000 if FULL else 40
    world.down, world.kinds = {"http://dead.test/hook"}, [{}]
    made = [Batch(app=app).on("complete", "receiver", url="http://dead.test/hook") for _ in range(count)]
    for batch in made:
        batch.seal()
    for _ in range(37):  # what 27 hours have of pauses
        come_to_rest(app, world)
        let_time_come(app, made)
        sweep(app, made)
    come_to_rest(app, world)
    assert not states(app, made)["published"]
    let_time_come(app, made, last=True)
    for key in app._batches_extension.engine.store.client.scan_iter("batches:address:*"):
        app._batches_extension.engine.store.client.delete(key)  # even if all of them may try once more
    before = world.messages
    sweep(app, made)
    come_to_rest(app, world)
    print(f"{count:,} deliveries to a dead host: {before:,} messages, {world.messages - before:,} at the end")
    assert states(app, made) == {"given_up": count}
    assert before <= count + 10 * 37
    assert world.messages - before <= count
    assert all(batch.deliveries()[-1].outcome == "given_up" for batch in made)
    assert not world.arrived
