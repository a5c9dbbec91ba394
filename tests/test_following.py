"""One thread per process listens and reads for all followers, and none of them misses the end."""

from __future__ import annotations

import asyncio
import gc
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Progress, StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.store import followed, inbox, listener, subscription
from celery_batches_notify.store.follow import AsyncReadings, Readings
from celery_batches_notify.store.followed import Followed
from celery_batches_notify.store.followers import Answer, Follower, ThreadFollower
from celery_batches_notify.store.listener import Listener
from celery_batches_notify.store.parsing import Reading
from celery_batches_notify.store.store import Store
from celery_batches_notify.store.subscription import BROKEN, Subscription
from tests.support.servers import PATIENT, ROOT, WAIT_SECONDS, wait_until
from tests.support.topologies import Node, nodes

SUCCEEDED = Outcome(state=State.SUCCEEDED)
NEVER = 600.0


class Made:
    """A sealed batch, whose members the test reports."""

    def __init__(self, app: Celery, members: int = 2) -> None:
        task = app.tasks["row"]
        self.batch = Batch(app=app)
        self.ids = [result.id for result in self.batch.add(*(task.s() for _ in range(members)))]
        self.store: Store = app._batches_extension.engine.store

    def report(self, *indices: int) -> None:
        for index in indices or range(len(self.ids)):
            member = Membership(bid=self.batch.bid, index=index, task_id=self.ids[index])
            self.store.record_outcome(member, SUCCEEDED)

    def follow(self, seen: queue.SimpleQueue[int]) -> None:
        """Follow to the end, in this thread."""
        for progress in self.batch.follow():
            seen.put(progress.succeeded)

    async def follow_async(self, seen: queue.SimpleQueue[int], times: int = 1) -> None:
        """Follow to the end in `times` tasks of this event loop."""
        if times > 1:
            await asyncio.gather(*(self.follow_async(seen) for _ in range(times)))
        else:
            async for progress in self.batch.follow():
                seen.put(progress.succeeded)


def declare_row(app: Celery) -> Celery:
    @app.task(name="row", shared=False)
    def row() -> None: ...

    return app


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    return declare_row(make_app())


@pytest.fixture
def only_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    """The listener reads again only after a token."""
    monkeypatch.setattr(followed, "REREAD_SECONDS", NEVER)


@pytest.fixture
def pages(monkeypatch: pytest.MonkeyPatch) -> list[Sequence[str]]:
    """Return the batches of each round trip as it happens; a failed one has none."""
    made: list[Sequence[str]] = []
    read = Store.read_many

    def read_and_note(store: Store, bids: Sequence[str]) -> Mapping[str, Answer]:
        read_now: Sequence[str] = ()
        try:
            answers = read(store, bids)
            read_now = bids
        finally:
            made.append(read_now)
        return answers

    monkeypatch.setattr(Store, "read_many", read_and_note)
    return made


def subscribers(redis: Redis, made: Made) -> int:
    """Return the number of connections that are subscribed to a batch."""
    return int(redis.pubsub_numsub(f"batch-{made.batch.bid}")[0][1])


def begun(batch: Batch) -> Readings:
    """Follow a batch, and take the first reading."""
    readings = iter(batch.follow())
    assert not next(readings).finished
    return readings


@contextmanager
def in_threads(count: int, do: Callable[[], object]) -> Iterator[None]:
    """Run `do` in `count` threads beside the block, and wait for their end."""
    threads = [threading.Thread(target=do) for _ in range(count)]
    for thread in threads:
        thread.start()
    yield
    for thread in threads:
        thread.join(WAIT_SECONDS)
        assert not thread.is_alive()


def take(seen: queue.SimpleQueue[int], count: int) -> set[int]:
    return {seen.get(timeout=WAIT_SECONDS) for _ in range(count)}


# -- one for all ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("only_tokens")
def test_all_followers_share_one_subscription_and_each_reading(
    app: Celery, redis: Redis, pages: list[Sequence[str]]
) -> None:
    made, seen = Made(app), queue.SimpleQueue[int]()

    with (
        in_threads(20, lambda: made.follow(seen)),
        in_threads(2, lambda: asyncio.run(made.follow_async(seen, times=20))),
    ):
        assert take(seen, 60) == {0}
        assert subscribers(redis, made) == 1
        pages.clear()
        made.report(0)
        assert take(seen, 60) == {1}
        assert pages == [[made.batch.bid]]
        made.report(1)
        assert take(seen, 60) == {2}


@pytest.mark.usefixtures("only_tokens")
def test_many_batches_are_read_together(app: Celery, pages: list[Sequence[str]]) -> None:
    many = [Made(app, 1) for _ in range(30)]

    async def follow(made: Made) -> Progress:
        return [progress async for progress in made.batch.follow()][-1]

    async def follow_all() -> list[Progress]:
        following = asyncio.gather(*map(follow, many))
        await asyncio.sleep(0)  # all of them have begun
        for made in many:
            made.report()
        return await following

    assert all(progress.finished for progress in asyncio.run(follow_all()))
    assert len(pages) < 30


def test_async_followers_take_no_thread_of_the_event_loop(app: Celery) -> None:
    made, leave = Made(app), threading.Event()

    async def watch() -> list[int]:
        loop = asyncio.get_running_loop()
        loop.set_default_executor(ThreadPoolExecutor(1))
        blocked = loop.run_in_executor(None, leave.wait)
        seen = []
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                async for progress in made.batch.follow():
                    seen.append(progress.succeeded)
                    if len(seen) == 1:
                        made.report()
        finally:
            leave.set()
            await blocked
        return seen

    assert asyncio.run(watch())[-1] == 2


def test_a_follower_that_never_looks_holds_up_nobody(app: Celery) -> None:
    made = Made(app)
    idle, busy = begun(made.batch), begun(made.batch)
    made.report()
    assert list(busy)[-1].finished
    assert [progress.succeeded for progress in idle] == [2]


# -- who leaves -----------------------------------------------------------------------------------


def test_followers_that_are_dropped_half_way_are_unsubscribed(app: Celery, redis: Redis) -> None:
    made = Made(app)
    in_a_cycle = [begun(made.batch)]
    in_a_cycle.append(in_a_cycle)
    assert subscribers(redis, made) == 1
    del in_a_cycle
    gc.collect()
    wait_until(lambda: subscribers(redis, made) == 0, what="the end of the subscription")


def test_an_iterator_that_was_closed_has_ended(app: Celery) -> None:
    made = Made(app)
    readings = begun(made.batch)
    readings.close()
    assert list(readings) == []

    async def close_early() -> list[Progress]:
        readings: AsyncReadings = aiter(made.batch.follow())
        await anext(readings)
        await readings.aclose()
        return [progress async for progress in readings]

    assert asyncio.run(close_early()) == []


def test_a_reading_that_is_not_waited_for_any_longer_can_be_asked_for_again(app: Celery) -> None:
    made = Made(app)

    async def watch() -> list[int]:
        readings: AsyncIterator[Progress] = aiter(made.batch.follow())
        await anext(readings)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(readings), 0.01)
        made.report()
        return [progress.succeeded async for progress in readings]

    assert asyncio.run(watch())[-1] == 2


def test_the_thread_and_its_connection_end_with_the_last_follower(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", 0.0)
    made = Made(app)
    readings = begun(made.batch)
    (thread,) = [each for each in threading.enumerate() if each.name == "batches-listener"]
    del readings
    thread.join(WAIT_SECONDS)
    assert not thread.is_alive()
    wait_until(lambda: subscribers(redis, made) == 0, what="the end of the subscription")


def test_a_store_that_is_closed_ends_its_idle_listener(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", NEVER)
    made = Made(app)
    begun(made.batch).close()
    made.store.close()
    assert "batches-listener" not in [thread.name for thread in threading.enumerate()]
    assert not next(iter(made.batch.follow())).finished, "the next follower begins another"


def test_a_follower_that_comes_as_the_listener_leaves_is_served(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", 0.0)
    first, second = ThreadFollower("a" * 22), ThreadFollower("b" * 22)
    left, remove = threading.Event(), Followed.remove

    def remove_and_note(batches: Followed, follower: Follower) -> None:
        remove(batches, follower)
        left.set()

    def clock() -> float:
        if left.is_set():  # the listener has lost its last follower, and is about to end
            left.clear()
            with in_threads(1, lambda: serving.add(second)):
                pass
        return time.monotonic()

    monkeypatch.setattr(Followed, "remove", remove_and_note)
    counts = {"total": 1, "pending": 1, "succeeded": 0, "failures": 0, "dead": 0}
    progress = Progress(bid="any", state="running", finished=False, **counts)
    reading = Reading(progress=progress, fired=frozenset())
    serving = Listener(lambda: redis, lambda bids: dict.fromkeys(bids, reading), clock)
    with serving.serving(first):
        assert first.wait(WAIT_SECONDS)
    assert second.wait(WAIT_SECONDS)
    serving.close()


def test_followers_that_come_and_go_all_the_time_are_all_served(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listener, "LINGER_SECONDS", 0.0)
    made, ends = Made(app), queue.SimpleQueue[int]()
    made.report()

    def follow_often() -> None:
        for _ in range(50):
            ends.put(len(list(made.batch.follow())))

    with in_threads(4, follow_often):
        assert take(ends, 200) == {1}


def test_an_async_iterator_goes_on_in_the_next_event_loop(app: Celery) -> None:
    made = Made(app)
    readings: AsyncReadings = aiter(made.batch.follow())
    assert asyncio.run(readings.__anext__()).succeeded == 0
    made.report()
    assert asyncio.run(readings.__anext__()).succeeded > 0


QUIET = """
import asyncio
import gc
import os
import sys
import threading

from celery import Celery
from celery_batches_notify import Batch, Batches

app = Celery("quiet", broker="memory://", set_as_current=False)
app.conf.batches_backend_url = os.environ["BATCHES_TEST_URL"]
Batches(app)
batch = Batch.get(sys.argv[1], app=app)
kept = []

async def follow():
    async for _ in batch.follow():
        pass

async def main():
    asyncio.get_running_loop().slow_callback_duration = 60
    async for _ in batch.follow():
        break
    task = asyncio.create_task(follow())
    await asyncio.sleep(0.1)
    task.cancel()
    try:
        await asyncio.wait_for(follow(), 0.1)
    except TimeoutError:
        pass
    kept.append(aiter(batch.follow()))
    await anext(kept[-1])
    kept.append(asyncio.create_task(follow()))

for _ in range(2):
    asyncio.run(main(), debug=True)
loop = asyncio.new_event_loop()
loop.set_debug(True)
loop.slow_callback_duration = 60
loop.run_until_complete(anext(aiter(batch.follow())))
loop.close()
for _ in batch.follow():
    break
kept.append(iter(batch.follow()))
next(kept[-1])
kept.clear()
gc.collect()
for thread in threading.enumerate():
    if thread.name == "batches-listener":
        thread.join()
app._batches_extension.reset()
print("done")
"""


def test_debug_mode_and_warnings_as_errors_say_nothing(app: Celery, server_url: str) -> None:
    made = Made(app)
    told = run_script(server_url, QUIET, made.batch.bid, "-X", "dev", "-W", "error")
    assert told == ("done\n", ""), told[1]


def run_script(url: str, script: str, bid: str, *options: str) -> tuple[str, str]:
    """Run a script in another process; return its output and its errors."""
    env = {**os.environ, "BATCHES_TEST_URL": url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, *options, "-c", script, bid]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=100)
    return done.stdout, done.stderr


# -- forks and greenlets --------------------------------------------------------------------------


def test_a_forks_child_follows_on_with_a_subscription_of_its_own(app: Celery, redis: Redis) -> None:
    made = Made(app)
    readings = begun(made.batch)
    reading, writing = os.pipe()
    if not (child := os.fork()):
        try:
            os.write(writing, list(readings)[-1].state.encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        wait_until(lambda: subscribers(redis, made) == 2, what="the child's subscription")
        made.report()
        assert list(readings)[-1].finished
        with os.fdopen(reading) as told:
            assert told.read() == "success"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


GREENLETS = """
from gevent import monkey
monkey.patch_all()
import os
import sys

import gevent
from celery import Celery
from celery_batches_notify import Batch, Batches

app = Celery("green", broker="memory://", set_as_current=False)
app.conf.batches_backend_url = os.environ["BATCHES_TEST_URL"]
Batches(app)
batch = Batch.get(sys.argv[1], app=app)

def follow():
    readings = iter(batch.follow())
    first = next(readings)
    begun.append(first)
    return [first, *readings][-1].state

begun = []
following = [gevent.spawn(follow) for _ in range(50)]
joining = gevent.spawn(batch.join, 60)
while len(begun) < 50:
    gevent.sleep(0.01)
client = app._batches_extension.engine.store.client
print("subscriptions:", client.pubsub_numsub(f"batch-{batch.bid}")[0][1], flush=True)
gevent.joinall([*following, joining])
print({each.value for each in following}, joining.value.state)
"""


def test_greenlets_follow_beside_each_other(app: Celery, server_url: str) -> None:
    made = Made(app)
    env = {**os.environ, "BATCHES_TEST_URL": server_url, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", GREENLETS, made.batch.bid]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        assert process.stdout.readline() == "subscriptions: 1\n"
        made.report()
        assert process.stdout.read() == "{'success'} success\n"


# -- the store and its connections fail -----------------------------------------------------------


@pytest.mark.usefixtures("only_tokens")
def test_a_subscription_that_is_cut_misses_nothing(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inbox, "CONNECT_SECONDS", 0.01)
    made = Made(app, 20)
    readings = begun(made.batch)
    for index in range(20):
        redis.client_kill_filter(_type="pubsub")
        made.report(index)
        while next(readings).succeeded != index + 1:
            pass


@pytest.fixture
def node() -> Iterator[Node]:
    """A server that can be killed, and started again with its data."""
    with nodes(1) as (node,):
        node.start()
        yield node


@pytest.fixture
def elsewhere(make_app: Callable[..., Celery], node: Node) -> Celery:
    options = {**PATIENT, "socket_connect_timeout": 1}
    url = f"redis://127.0.0.1:{node.port}/0"
    return declare_row(make_app(batches_backend_url=url, batches_backend_options=options))


def test_followers_outlive_a_restart_of_the_store(
    elsewhere: Celery, node: Node, pages: list[Sequence[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "REREAD_SECONDS", 0.1)
    made, joined = Made(elsewhere), Made(elsewhere)
    seen, joins = queue.SimpleQueue[int](), queue.SimpleQueue[int]()

    def join() -> None:
        joins.put(joined.batch.join().succeeded)

    with (
        in_threads(1, lambda: made.follow(seen)),
        in_threads(1, lambda: asyncio.run(made.follow_async(seen))),
        in_threads(1, join),
    ):
        assert take(seen, 2) == {0}
        wait_until(lambda: any(joined.batch.bid in page for page in pages), what="a reading for the join")
        node.kill()
        wait_until(lambda: () in pages, what="a reading while the store is away")
        node.start()
        made.report()
        joined.report()
        assert take(joins, 1) == {2}
        while seen.get(timeout=WAIT_SECONDS) != 2:
            pass


def test_a_store_that_stays_away_ends_each_follower_with_an_error_of_its_own(
    elsewhere: Celery, node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "REREAD_SECONDS", 0.1)
    monkeypatch.setattr(followed, "AWAY_SECONDS", 0.0)
    made = Made(elsewhere)
    several = [begun(made.batch) for _ in range(3)]
    node.kill()
    errors = []
    for readings in several:
        with pytest.raises(StoreUnavailable, match="does not answer") as told:
            list(readings)
        errors.append(told.value)
        assert list(readings) == []
    assert len(set(map(id, errors))) == 3
    for follow in (lambda: next(iter(made.batch.follow())), made.batch.join):
        with pytest.raises(StoreUnavailable, match="does not answer"):
            follow()


def test_followers_read_every_few_seconds_if_the_channel_is_denied(
    app: Celery, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(followed, "REREAD_SECONDS", 0.1)
    made = Made(app)
    redis.execute_command("ACL", "SETUSER", "batches", "resetchannels")
    try:
        readings = begun(made.batch)
        assert subscribers(redis, made) == 0
        made.report()
        assert list(readings)[-1].finished
        assert made.batch.join(WAIT_SECONDS).succeeded == 2
    finally:
        redis.execute_command("ACL", "SETUSER", "batches", "&batch-*")


def test_a_fault_of_the_listener_reaches_its_followers_and_ends_with_them(
    app: Celery, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    made, read, divisor = Made(app), Store.read_many, 0
    monkeypatch.setattr(Store, "read_many", lambda *args: 1 / divisor and read(*args))
    for follow in (lambda: next(iter(made.batch.follow())), made.batch.join):
        with pytest.raises(ZeroDivisionError):
            follow()
    assert "following ended" in caplog.text
    divisor = 1
    made.report()
    assert next(iter(made.batch.follow())).finished


def test_a_listener_that_cannot_begin_says_so(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Made(app)

    def have_no_file_left() -> None:
        raise OSError("Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(inbox.socket, "socketpair", have_no_file_left)
        with pytest.raises(OSError, match="Too many open files"):
            next(iter(made.batch.follow()))
    assert not next(iter(made.batch.follow())).finished


# -- the subscription itself ----------------------------------------------------------------------


@pytest.fixture
def subscribed(redis: Redis) -> Iterator[Subscription]:
    made = Subscription(redis, 0.0)
    yield made
    made.close()


def hear(subscribed: Subscription, wanted: set[str]) -> None:
    """Wait until exactly these batches were named."""
    named: set[str] = set()

    def is_named() -> bool:
        named.update(subscribed.hear(0.0)[0])
        return named >= wanted

    wait_until(is_named, what="the names")
    assert named == wanted


@pytest.mark.parametrize("protocol", [2, 3])
@pytest.mark.parametrize("chunk", [1, 7, 100_000])
def test_batches_are_named_however_what_arrives_is_cut(
    redis: Redis, server_url: str, protocol: int, chunk: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subscription, "CHUNK_BYTES", chunk)
    bids = {"a" * 10, "-" * 22, "Z9_" * 20}
    with Redis.from_url(server_url, protocol=protocol) as client:
        subscribed = Subscription(client, 0.0)
        subscribed.subscribe(bids)
        hear(subscribed, bids)
        for bid in bids:
            redis.publish(f"batch-{bid}", "+")
        hear(subscribed, bids)
        assert subscribed.hear(0.0) == (set(), False)
        subscribed.close()


def test_a_payload_of_any_kind_names_no_less_than_its_batch(redis: Redis, subscribed: Subscription) -> None:
    bids = ["a" * 22, "b" * 22]
    subscribed.subscribe(bids)
    hear(subscribed, set(bids))
    for payload in (b"", b"\r\n", b"x" * 3_000_000, b"$7\r\nmessage\r\n$28\r\nbatch-", bytes(range(256))):
        redis.publish(f"batch-{bids[0]}", payload)
        redis.publish(f"batch-{bids[1]}", "+")
        hear(subscribed, set(bids))


def test_a_server_that_is_silent_is_asked_and_one_that_does_not_answer_is_left(
    subscribed: Subscription,
) -> None:
    subscribed.check(4.9)
    subscribed.check(5.0)
    wait_until(lambda: subscribed.hear(6.0) and subscribed._heard_at == 6.0, what="its answer")
    subscribed.check(11.0)
    subscribed.check(15.9)
    with pytest.raises(BROKEN, match="said nothing for 5 s"):
        subscribed.check(16.0)


def test_a_connection_that_the_server_closed_is_broken(redis: Redis, subscribed: Subscription) -> None:
    subscribed.subscribe(["a" * 22])
    hear(subscribed, {"a" * 22})
    redis.client_kill_filter(_type="pubsub")

    def breaks() -> bool:
        try:
            subscribed.hear(0.0)
        except BROKEN:
            return True
        return False

    wait_until(breaks)


def test_the_subscription_takes_no_place_in_the_clients_pool(server_url: str) -> None:
    with Redis.from_url(server_url, max_connections=1) as client:
        for _ in range(3):
            Subscription(client, 0.0).close()
        assert client.ping()


def test_a_listener_that_cannot_connect_reads_at_once(redis: Redis) -> None:
    away = Redis(port=1, retry=None)
    with pytest.raises(BROKEN):
        Subscription(away, 0.0)
    read: list[Sequence[str]] = []

    def note(bids: Sequence[str]) -> dict[str, Exception]:
        read.append(bids)
        return {bid: StoreUnavailable("away") for bid in bids}

    listening = Listener(lambda: away, note)
    follower = ThreadFollower("a" * 22)
    with listening.serving(follower):
        assert isinstance(follower.wait(WAIT_SECONDS), StoreUnavailable)
    listening.close()
    assert read == [["a" * 22]]
