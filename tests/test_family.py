"""Nested batches, cancelling, retries and watches. The store is real; the test plays the worker."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import (
    Batch,
    BatchCancelled,
    BatchSealed,
    ConfigurationError,
    InvalidCallback,
    WouldDeadlock,
)
from celery_batches_notify.delivery.parents import REPORT_DUE
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.model import Failure
from celery_batches_notify.store.store import Store
from celery_batches_notify.testing import drain
from tests.support.servers import Ear

SUCCEEDED = Outcome(state=State.SUCCEEDED)


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(told, name="told", shared=False)
    return app


@pytest.fixture
def store(app: Celery) -> Store:
    return app._batches_extension.engine.store


class Made:
    """A batch and its members in the order of their indexes."""

    def __init__(self, app: Celery, n: int, parent: Batch | None = None, **options: object) -> None:
        self.app = app
        self.batch = Batch(app=app, parent=parent, **options)
        for event in ("death", "complete", "finish", "success"):
            self.batch.on(event, app.tasks["told"].s())
        self.ids = [r.id for r in self.batch.add(*(app.tasks["told"].s(i) for i in range(n)))] if n else []

    def report(self, index: int, outcome: Outcome, round_: int = 0) -> None:
        """Report an outcome and publish callbacks, as a worker does."""
        engine = self.app._batches_extension.engine
        member = Membership(bid=self.batch.bid, index=index, task_id=self.ids[index], round=round_)
        engine.publisher.publish(self.batch.bid, engine.store.record_outcome(member, outcome))

    @property
    def counts(self) -> tuple[int, int, int]:
        status = self.batch.status()
        return status.succeeded, status.failing, status.dead

    @property
    def fired(self) -> list[str]:
        status = self.batch.status()
        return [e for e in ("death", "complete", "finish", "success") if getattr(status, f"{e}_at")]


def failed(state: State, attempt: int = 1, **more: object) -> Outcome:
    failure = Failure(
        task_id="x", task="told", error_class="E", error_message="no", backtrace=None, retries=attempt - 1
    )
    return Outcome(state=state, attempt=attempt, reason="failed", failure=failure, **more)


# -- nested ---------------------------------------------------------------------------------------


def family(app: Celery) -> tuple[Made, Made, Made]:
    """Return a batch with one child, which has one child, which has two members."""
    top = Made(app, 0, keep_open=True)
    middle = Made(app, 0, parent=top.batch, keep_open=True)
    bottom = Made(app, 2, parent=middle.batch)
    middle.batch.seal()
    top.batch.seal()
    return top, middle, bottom


def test_a_parent_of_another_app_is_refused(app: Celery, make_app: Callable[..., Celery]) -> None:
    with pytest.raises(ConfigurationError, match="parent is a batch of"):
        Batch(app=make_app(), parent=Batch(app=app))


def test_a_parents_success_waits_for_the_whole_subtree(app: Celery) -> None:
    top, middle, bottom = family(app)
    assert [m.batch.status().total for m in (top, middle, bottom)] == [1, 1, 2]
    assert middle.batch.status().parent_bid == top.batch.bid
    assert top.batch.status().children == 1
    bottom.report(0, SUCCEEDED)
    assert (top.fired, top.counts) == ([], (0, 0, 0))
    bottom.report(1, SUCCEEDED)
    for made in (top, middle, bottom):
        assert made.fired == ["complete", "finish", "success"]
    assert (top.counts, middle.counts) == ((1, 0, 0), (1, 0, 0))


def test_a_child_is_waiting_then_failing_then_what_it_ends_as(app: Celery) -> None:
    top, middle, bottom = family(app)
    bottom.report(0, SUCCEEDED)
    bottom.report(1, failed(State.FAILING))
    assert (top.counts, middle.counts) == ((0, 1, 0), (0, 1, 0))
    assert top.fired == ["complete"]
    bottom.report(1, SUCCEEDED)
    assert (top.counts, middle.counts) == ((1, 0, 0), (1, 0, 0))
    assert top.fired == ["complete", "finish", "success"]


def test_a_childs_death_fires_the_ancestors_at_once_and_changes_no_state(app: Celery) -> None:
    top, middle, bottom = family(app)
    bottom.report(0, failed(State.DEAD))
    for made in (top, middle):
        assert made.fired == ["death"]
        assert made.counts == (0, 0, 0)
    bottom.report(1, SUCCEEDED)
    assert (top.counts, middle.counts) == ((0, 0, 1), (0, 0, 1))
    assert top.fired == ["death", "complete", "finish"]
    assert top.batch.status().failure_info[0].error_message == "1 of 1 members failed, 1 of them for good"


def test_a_child_that_recovers_unmarks_its_ancestors(app: Celery) -> None:
    top, middle, bottom = family(app)
    bottom.report(0, failed(State.DEAD))
    bottom.report(1, SUCCEEDED)
    bottom.report(0, SUCCEEDED)
    assert (top.counts, middle.counts) == ((1, 0, 0), (1, 0, 0))
    assert top.batch.status().state == "success"
    assert top.batch.status().failure_info == ()


@pytest.fixture
def deep(app: Celery) -> list[Made]:
    """A family is deeper than Python's recursion limit."""
    line = [Made(app, 0, keep_open=True)]
    for _ in range(sys.getrecursionlimit() // 2):
        with line[-1].batch:  # stored and still open
            pass
        line.append(Made(app, 0, parent=line[-1].batch, keep_open=True))
    line.append(Made(app, 1, parent=line[-1].batch))
    for made in line[:-1]:
        made.batch.seal()
    return line


def test_a_success_goes_all_the_way_up_however_deep_it_is(deep: list[Made], store: Store) -> None:
    deep[-1].report(0, SUCCEEDED)
    assert {made.batch.status().state for made in deep} == {"success"}


def test_a_family_is_cancelled_repaired_and_deleted_however_deep_it_is(
    deep: list[Made], redis: Redis
) -> None:
    top = deep[0].batch
    assert top.retry() == 0
    assert top.reconcile().total == 0
    top.cancel()
    assert all(made.batch.status().cancelled_at for made in deep)
    assert top.delete()
    assert redis.keys("batches:{*") == []


def test_a_batch_that_somebody_put_below_itself_is_met_once(app: Celery, store: Store, redis: Redis) -> None:
    top, middle, bottom = family(app)
    redis.hset(store.keys.part(bottom.batch.bid, "children"), 0, top.batch.bid)
    assert top.batch.retry() == 0
    top.batch.cancel()
    assert all(made.batch.status().cancelled_at for made in (top, middle, bottom))
    assert bottom.batch.delete()
    assert redis.keys("batches:{*") == []


def test_a_complete_child_that_grows_is_told_to_nobody(app: Celery, store: Store, redis: Redis) -> None:
    top = Made(app, 0, keep_open=True)
    child = Made(app, 1, parent=top.batch)
    child.report(0, failed(State.FAILING))
    ear = Ear(redis)
    store.enrol_members(child.batch.bid, 1, ["new"], Membership(bid="", index=0, task_id=child.ids[0]))
    child.ids.append("new")
    child.report(1, SUCCEEDED)
    assert redis.hget(f"batches:{{{child.batch.bid}}}", "parent_version") == b"1"
    child.report(0, SUCCEEDED)
    assert ear.listen()[top.batch.bid] == "+"
    ear.close()


def test_an_empty_child_succeeds_for_its_parent(app: Celery) -> None:
    top = Made(app, 0, keep_open=True)
    child = Batch(app=app, parent=top.batch)
    child.seal()
    top.batch.seal()
    assert top.fired == ["complete", "finish", "success"]


def test_what_the_parent_was_not_told_the_sweeper_tells(app: Celery, store: Store, redis: Redis) -> None:
    top, middle, bottom = family(app)
    for index in (0, 1):
        member = Membership(bid=bottom.batch.bid, index=index, task_id=bottom.ids[index])
        store.record_outcome(member, SUCCEEDED)  # and the process dies here
    assert middle.counts == (0, 0, 0)
    key = f"batches:{{{bottom.batch.bid}}}"
    redis.hset(f"{key}:outbox", "parent:0", "due 1 1")
    redis.hset(key, "next_due", 1)
    app._batches_extension.engine.sweeper.sweep()
    assert (top.counts, middle.counts) == ((1, 0, 0), (1, 0, 0))


def test_a_change_while_the_parent_is_told_is_told_too(app: Celery, store: Store) -> None:
    top = Made(app, 0, keep_open=True)
    child = Made(app, 1, parent=top.batch)
    top.batch.seal()
    member = Membership(bid=child.batch.bid, index=0, task_id=child.ids[0])
    store.record_outcome(member, failed(State.FAILING))
    store.record_outcome(member, SUCCEEDED)
    assert store.settle_delivery(child.batch.bid, "parent:0", "delivered", 1).word == "repeated"
    app._batches_extension.engine.publisher.publish(child.batch.bid, REPORT_DUE)
    assert top.fired == ["complete", "finish", "success"]
    assert store.settle_delivery(child.batch.bid, "parent:0", "delivered", 2).word == "repeated"


def test_a_sealed_parent_takes_no_child(app: Celery) -> None:
    top = Made(app, 1)
    with pytest.raises(BatchSealed):
        Batch(app=app, parent=top.batch).seal()


def test_a_child_is_enrolled_once_however_often_it_is_asked(app: Celery, store: Store) -> None:
    top = Made(app, 0, keep_open=True)
    child = Batch(app=app, parent=top.batch)
    for _ in range(3):
        assert top.batch._enrolment.enrol_child(child.bid) == 0
    assert top.batch.status().total == 1


def test_a_living_child_keeps_its_parent_alive(app: Celery, redis: Redis) -> None:
    top, middle, _ = family(app)
    for made in (top, middle):
        for key in redis.keys(f"batches:{{{made.batch.bid}}}*"):
            redis.pexpire(key, 60_000)
    app._batches_extension.engine.sweeper.sweep()
    for made in (top, middle):
        assert min(redis.ttl(k) for k in redis.keys(f"batches:{{{made.batch.bid}}}*")) > 86_400


def test_a_parent_that_is_gone_harms_no_child(app: Celery, store: Store, redis: Redis) -> None:
    top, middle, bottom = family(app)
    redis.delete(*store.keys.of_batch(top.batch.bid))  # as if expired; delete() removes children too
    bottom.report(0, SUCCEEDED)
    bottom.report(1, SUCCEEDED)
    assert middle.fired == ["complete", "finish", "success"]
    assert [c.state for c in middle.batch.status().callbacks] == [
        "waiting",
        "published",
        "published",
        "published",
    ]


def test_a_child_that_is_deleted_is_dead_for_its_parent(app: Celery) -> None:
    top, middle, bottom = family(app)
    bottom.report(0, SUCCEEDED)
    bottom.batch.delete()
    assert middle.counts == top.counts == (0, 0, 1)
    assert middle.batch.status().failure_info[0].error_message == "the batch was deleted"
    assert top.fired == ["death", "complete", "finish"]


def test_thirty_children_at_once_end_their_parent_once(app: Celery) -> None:
    top = Made(app, 0, keep_open=True)
    children = [Made(app, 1, parent=top.batch) for _ in range(30)]
    top.batch.seal()
    threads = [threading.Thread(target=child.report, args=(0, SUCCEEDED)) for child in children]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert top.counts == (30, 0, 0)
    assert top.fired == ["complete", "finish", "success"]


# -- cancel ---------------------------------------------------------------------------------------


def test_cancel_reaches_the_children_and_changes_no_count(app: Celery, redis: Redis) -> None:
    top, middle, bottom = family(app)
    watched = Batch(app=app, keep_open=True).on("cancel", app.tasks["told"].s())
    watched.add(app.tasks["told"].s())
    watched.cancel()
    watched.cancel()
    assert [(c.event, c.state, c.attempts) for c in watched.status().callbacks] == [
        ("cancel", "published", 1)
    ]
    top.batch.cancel()
    for made in (top, middle, bottom):
        assert made.batch.cancelled
        assert made.batch.status().state == "cancelled"
        assert made.counts == (0, 0, 0)
    assert redis.zcard("batches:cancelled") == 4


def test_a_child_that_is_opened_in_a_cancelled_batch_is_cancelled(app: Celery, redis: Redis) -> None:
    top = Made(app, 0, keep_open=True)
    top.batch.add(app.tasks["told"].s())
    top.batch.cancel()
    child = Batch(app=app, parent=top.batch, keep_open=True).on("cancel", app.tasks["told"].s())
    grandchild = Made(app, 1, parent=child)
    assert child.status().state == "cancelled"
    assert [(c.event, c.state) for c in child.status().callbacks] == [("cancel", "published")]
    assert grandchild.batch.cancelled
    cancelled = app._batches_extension.engine.store.read_cancelled()
    assert cancelled.keys() == {top.batch.bid, child.bid, grandchild.batch.bid}


def test_a_cancel_reaches_a_child_that_is_just_being_stored(app: Celery, store: Store) -> None:
    top = Made(app, 0, keep_open=True)
    top.batch.add(app.tasks["told"].s())
    open_batch = store.open_batch

    def cancel_before(bid: str, *args: object, **options: object) -> None:
        top.batch.cancel()  # the child is enrolled now, and not stored yet
        open_batch(bid, *args, **options)

    store.open_batch = cancel_before
    child = Made(app, 1, parent=top.batch)
    del store.open_batch
    assert child.batch.cancelled


def spoil(redis: Redis, bid: str, field: str, value: object) -> None:
    redis.hset(f"batches:{{{bid}}}", field, value)


@pytest.mark.parametrize(("field", "value"), [("schema", 99), ("cancelled_at", 1), ("dead", "many")])
def test_a_child_that_cannot_be_retried_does_not_stop_the_others(
    app: Celery, redis: Redis, field: str, value: object
) -> None:
    top = Made(app, 0, keep_open=True)
    children = [Made(app, 1, parent=top.batch) for _ in range(5)]
    for child in children:
        die(child, 0)
    spoil(redis, children[2].batch.bid, field, value)
    queued(app)
    assert top.batch.retry() == 4
    ids = {message.headers["id"] for message in queued(app)}
    assert ids == {child.ids[0] for child in children if child is not children[2]}


@pytest.mark.parametrize(("field", "value"), [("schema", 99), ("total", "many")])
def test_a_child_that_cannot_be_cancelled_does_not_stop_the_others(
    app: Celery, redis: Redis, store: Store, field: str, value: object
) -> None:
    top = Made(app, 0, keep_open=True)
    children = [Made(app, 1, parent=top.batch) for _ in range(5)]
    spoil(redis, children[2].batch.bid, field, value)
    redis.delete(f"batches:{{{children[3].batch.bid}}}:children")
    redis.set(f"batches:{{{children[3].batch.bid}}}:children", "no hash", ex=60)
    top.batch.cancel()
    assert {c.batch.bid for c in children if c.batch.cancelled} >= {
        c.batch.bid for c in children if c is not children[2]
    }


def test_a_discarded_member_is_dead_without_a_death_but_a_failed_one_dies(app: Celery) -> None:
    made = Made(app, 3)
    made.batch.cancel()
    made.report(0, discarded("revoked"))
    made.report(1, discarded("cancelled"))
    assert made.fired == []
    made.report(2, failed(State.DEAD))
    assert made.fired == ["death", "complete", "finish"]
    assert made.counts == (0, 0, 3)
    with pytest.raises(BatchCancelled, match="was cancelled"):
        made.batch.retry()


def test_a_cancelled_family_has_no_death(app: Celery) -> None:
    top, middle, bottom = family(app)
    top.batch.cancel()
    for index in (0, 1):
        bottom.report(index, discarded("cancelled"))
    for made in (bottom, middle, top):
        assert made.fired == ["complete", "finish"]
    assert (top.counts, middle.counts) == ((0, 0, 1), (0, 0, 1))


def discarded(reason: str) -> Outcome:
    return Outcome(state=State.DEAD, reason=reason, failure=failed(State.DEAD).failure)


def test_deleting_a_cancelled_batch_takes_it_off_all_lists(app: Celery, redis: Redis) -> None:
    made = Made(app, 1)
    made.batch.cancel()
    made.batch.cancel(terminate=True)
    assert app._batches_extension.engine.store.read_cancelled() == {made.batch.bid: True}
    made.batch.delete()
    assert redis.zcard("batches:cancelled") == 0


# -- another round --------------------------------------------------------------------------------

CALL = '{"id": "%s", "task": "told", "args": [7], "kwargs": {}, "options": {"priority": 3}}'


def die(made: Made, index: int, round_: int = 0, attempt: int = 1) -> None:
    made.report(index, failed(State.DEAD, attempt, resend=CALL % made.ids[index]), round_)


def queued(app: Celery) -> list[object]:
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
    ):
        messages = []
        while queue.qsize():
            messages.append(queue.get_nowait())
            messages[-1].ack()
        return messages


def test_dead_members_are_sent_again_under_their_ids_in_a_new_round(app: Celery) -> None:
    made = Made(app, 3)
    made.report(0, SUCCEEDED)
    for index in (1, 2):
        die(made, index)
    assert made.batch.status().state == "dead"
    queued(app)
    assert made.batch.retry() == 2
    messages = sorted(queued(app), key=lambda m: m.headers["batches"]["index"])
    assert [m.headers["id"] for m in messages] == made.ids[1:]
    assert [m.headers["batches"]["round"] for m in messages] == [1, 1]
    assert [(m.payload[0], m.properties["priority"]) for m in messages] == [([7], 3)] * 2
    assert made.counts == (1, 2, 0)
    assert made.batch.retry() == 0
    made.report(1, SUCCEEDED, 1)
    made.report(2, SUCCEEDED, 1)
    assert made.fired == ["death", "complete", "finish", "success"]
    assert [c.attempts for c in made.batch.status().callbacks] == [1, 1, 1, 1]


def test_late_reports_of_an_earlier_round_change_nothing(app: Celery) -> None:
    made = Made(app, 1)
    die(made, 0, attempt=3)
    made.batch.retry()
    for attempt in (3, 4, 9):
        die(made, 0, attempt=attempt)
    assert made.counts == (0, 1, 0)
    die(made, 0, round_=1)
    assert made.counts == (0, 0, 1)
    assert made.batch.retry() == 1
    assert made.counts == (0, 1, 0)


def test_ten_at_once_send_each_member_once(app: Celery) -> None:
    made = Made(app, 250)
    for index in range(250):
        die(made, index)
    queued(app)
    sent: list[int] = []
    threads = [threading.Thread(target=lambda: sent.append(made.batch.retry())) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(sent) == 250
    assert sorted(m.headers["id"] for m in queued(app)) == sorted(made.ids)
    assert made.counts == (0, 250, 0)


def test_an_interrupted_retry_is_finished_by_the_sweeper(app: Celery, store: Store, redis: Redis) -> None:
    made = Made(app, 3)
    for index in range(3):
        die(made, index)
    queued(app)
    assert sum(len(chunk) for chunk in store.claim_retries(made.batch.bid)) == 3  # and the process dies here
    redis.hset(f"batches:{{{made.batch.bid}}}", "resend_at", 1)
    sweeper = app._batches_extension.engine.sweeper
    sweeper.sweep()
    assert sorted(m.headers["id"] for m in queued(app)) == sorted(made.ids)
    sweeper.sweep()
    assert queued(app) == []


def test_what_is_kept_for_a_retry_goes_with_the_success(app: Celery, redis: Redis) -> None:
    made = Made(app, 2)
    die(made, 0)
    made.report(0, SUCCEEDED)
    assert made.batch.retry() == 0
    assert redis.hlen(f"batches:{{{made.batch.bid}}}:resend") == 0


def test_what_cannot_be_sent_again_is_counted_with_the_reason(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_retry_kept=1)
    app.task(told, name="told", shared=False)
    made = Made(app, 4)
    made.report(0, failed(State.DEAD, unsendable="its arguments are not JSON"))
    made.report(1, failed(State.DEAD, unsendable="its arguments are not JSON"))
    die(made, 2)
    die(made, 3)
    assert made.batch.status().unsendable == {"its arguments are not JSON": 2, "too many dead": 1}
    assert made.batch.retry() == 1


def test_what_is_kept_is_kept_however_often_a_member_dies(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_retry_kept=1)
    app.task(told, name="told", shared=False)
    made = Made(app, 1)
    die(made, 0)
    die(made, 0, attempt=2)
    assert made.batch.status().unsendable == {}
    assert made.batch.retry() == 1


def test_retry_of_a_parent_reaches_its_children_and_all_recover(app: Celery) -> None:
    top, middle, bottom = family(app)
    die(bottom, 0)
    bottom.report(1, SUCCEEDED)
    assert top.counts == (0, 0, 1)
    assert top.batch.retry() == 1
    assert (top.counts, middle.counts, bottom.counts) == ((0, 1, 0), (0, 1, 0), (1, 1, 0))
    bottom.report(0, SUCCEEDED, 1)
    for made in (top, middle, bottom):
        assert made.batch.status().state == "success"
        assert made.fired == ["death", "complete", "finish", "success"]


# -- events that watch ----------------------------------------------------------------------------


def test_progress_fires_each_callback_once_at_its_share(app: Celery) -> None:
    batch = Batch(app=app)
    for share in (0.25, 0.5, 1):
        batch.on("progress", app.tasks["told"].s(), at=share)
    made = Made.__new__(Made)
    made.app, made.batch = app, batch
    made.ids = [r.id for r in batch.add(*(app.tasks["told"].s() for _ in range(4)))]
    states = []
    for index, outcome in enumerate((SUCCEEDED, failed(State.FAILING), failed(State.DEAD), SUCCEEDED)):
        made.report(index, outcome)
        states.append([c.state for c in batch.status().callbacks].count("published"))
    assert states == [1, 1, 2, 2]
    made.report(1, SUCCEEDED)
    assert [c.attempts for c in batch.status().callbacks] == [1, 1, 1]


def test_deadline_and_stall_fire_once_when_their_time_has_come(app: Celery, redis: Redis) -> None:
    batch = Batch(app=app)
    batch.on("deadline", app.tasks["told"].s(), after=3600).on("stall", app.tasks["told"].s(), after=60)
    made = Made.__new__(Made)
    made.app, made.batch = app, batch
    made.ids = [r.id for r in batch.add(*(app.tasks["told"].s() for _ in range(2)))]
    key, sweeper = f"batches:{{{batch.bid}}}", app._batches_extension.engine.sweeper

    def let_pass(seconds: int) -> None:
        for name in ("created_at", "reported_at", "watch_at"):
            redis.hincrby(key, name, -seconds * 1000)

    def states() -> list[str]:
        sweeper.sweep()
        return [c.state for c in batch.status().callbacks]

    assert states() == ["waiting", "waiting"]
    let_pass(50)
    made.report(0, SUCCEEDED)
    let_pass(20)
    assert states() == ["waiting", "waiting"], "it moved 20 s ago"
    let_pass(50)
    assert states() == ["waiting", "published"]
    let_pass(3600)
    assert states() == ["published", "published"]
    made.report(1, SUCCEEDED)
    assert states() == ["published", "published"]
    assert [c.attempts for c in batch.status().callbacks] == [1, 1]


def test_a_batch_that_ended_in_time_misses_no_deadline(app: Celery, redis: Redis) -> None:
    batch = (
        Batch(app=app)
        .on("deadline", app.tasks["told"].s(), after=1)
        .on("stall", app.tasks["told"].s(), after=1)
    )
    batch.seal()
    redis.hset(f"batches:{{{batch.bid}}}", mapping={"watch_at": 1, "created_at": 1, "reported_at": 1})
    app._batches_extension.engine.sweeper.sweep()
    assert [c.state for c in batch.status().callbacks] == ["waiting", "waiting"]


@pytest.mark.parametrize(
    ("event", "options", "fix"),
    [
        ("progress", {}, "at=0.5"),
        ("progress", {"at": 0}, "at=0.5"),
        ("progress", {"at": 1.5}, "at=0.5"),
        ("progress", {"at": True}, "at=0.5"),
        ("deadline", {}, "after=3600"),
        ("deadline", {"after": -1}, "after=3600"),
        ("stall", {"after": "1 h"}, "after=3600"),
        ("complete", {"after": 3}, "options are for notifiers"),
    ],
    ids=str,
)
def test_a_threshold_that_is_wrong_is_refused(
    app: Celery, event: str, options: dict[str, object], fix: str
) -> None:
    with pytest.raises(InvalidCallback, match=fix):
        Batch(app=app).on(event, app.tasks["told"].s(), **options)


def test_a_member_cannot_wait_for_a_batch_above_its_own(make_app: Callable[..., Celery]) -> None:
    app, refused = make_app(), []

    @app.task(name="waits", shared=False)
    def waits(bid: str) -> None:
        with pytest.raises(WouldDeadlock) as told:
            Batch.get(bid, app=app).join(60)
        refused.append(str(told.value))

    top = Batch(app=app, keep_open=True)
    middle = Batch(app=app, parent=top, keep_open=True)
    with Batch(app=app, parent=middle) as lowest:
        waits.delay(top.bid)
    drain(lowest)
    assert len(refused) == 1
    assert lowest.status().state == "success"
