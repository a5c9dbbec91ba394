"""The users of the documentation can do what they need and nothing else, and tenants are kept apart."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery
from redis import Redis
from redis.exceptions import NoPermissionError, ResponseError

from celery_batches_notify import Batch, Batches, NoSuchBatch, StoreUnavailable
from celery_batches_notify.membership import Membership, Outcome, State
from tests.support.acl import lines, url_as
from tests.support.servers import server_named

FORBIDDEN = {
    "another key": ("GET", "celery"),
    "another app's batch": ("HGETALL", "other:{bid4567890}"),
    "all keys": ("KEYS", "*"),
    "the end of all": ("FLUSHALL",),
    "another channel": ("PUBLISH", "news", "x"),
    "every channel": ("PSUBSCRIBE", "*"),
    "the settings": ("CONFIG", "GET", "*"),
    "the users": ("ACL", "LIST"),
    "other clients": ("CLIENT", "KILL", "TYPE", "normal"),
    "replication": ("REPLICAOF", "NO", "ONE"),
    "the command log": ("SLOWLOG", "GET"),
    "listening in": ("MONITOR",),
    "functions": ("FUNCTION", "LIST"),
    "modules": ("MODULE", "LIST"),
    "the script cache": ("SCRIPT", "FLUSH"),
    "copying away": ("COPY", "batches:index", "mine"),
}
WRITES = {
    "a field": ("HSET", "batches:{bid4567890}", "total", "0"),
    "a list": ("ZADD", "batches:live", "0", "x"),
    "removal": ("UNLINK", "batches:index"),
    "a life": ("PEXPIRE", "batches:index", "1"),
    "a script": ("EVAL", "return redis.call('HSET', KEYS[1], 'total', 0)", "1", "batches:{bid4567890}"),
    "a token": ("PUBLISH", "batch-bid4567890", "$"),
}


def told(*_: object) -> None:
    """Be called back."""


@pytest.fixture(scope="module", params=["valkey", "redis-7", "redis-6.2"])
def server(request: pytest.FixtureRequest) -> Iterator[str]:
    with server_named(request.param) as url:
        yield url


@pytest.fixture
def make(server: str) -> Iterator[Callable[..., Celery]]:
    """Return a function that makes apps whose store user is created by a line of the page."""
    made: list[Celery] = []

    def make_app(user: str = "batches", prefix: str = "batches") -> Celery:
        app = Celery(set_as_current=False, broker="memory://")
        app.conf.update(batches_backend_url=url_as(server, user, prefix=prefix), batches_prefix=prefix)
        Batches(app)
        app.task(told, name="told", shared=False)
        made.append(app)
        return app

    yield make_app
    for app in made:
        app.close()
        app._batches_extension.reset()


def end(app: Celery, batch: Batch, state: State = State.SUCCEEDED) -> None:
    (result,) = batch.add(app.tasks["told"].s())
    member = Membership(bid=batch.bid, index=0, task_id=result.id)
    app._batches_extension.engine.store.record_outcome(member, Outcome(state=state))


@pytest.mark.parametrize("user", lines())
@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_user_gets_at(server: str, user: str, what: str) -> None:
    with Redis.from_url(url_as(server, user)) as client, pytest.raises(ResponseError) as told:
        client.execute_command(*FORBIDDEN[what])
    unknown = "unknown command" in str(told.value).lower()
    assert isinstance(told.value, NoPermissionError) or unknown, told.value


@pytest.mark.parametrize("what", WRITES)
def test_the_reader_cannot_write(server: str, what: str) -> None:
    with Redis.from_url(url_as(server, "batches-reader")) as client, pytest.raises(NoPermissionError):
        client.execute_command(*WRITES[what])


def test_the_reader_reads_all_that_there_is(make: Callable[..., Celery]) -> None:
    app, page = make(), make("batches-reader")
    batch = Batch("seen", tags=["acl"], app=app).on("finish", app.tasks["told"].s())
    end(app, batch, State.DEAD)
    seen = Batch.get(batch.bid, app=page)
    assert seen.status().state == "dead"
    assert [each.bid for each in Batch.all(tag="acl", app=page)] == [batch.bid]
    assert next(iter(seen.follow())).finished
    assert seen.join(5).dead == 1
    assert seen.deliveries() == []
    assert len(list(page._batches_extension.engine.store.walk_members(batch.bid, 1))) == 1
    for change in (seen.cancel, seen.retry, seen.delete):
        with pytest.raises(StoreUnavailable, match="does not allow its user"):
            change()


def test_the_readers_keys_may_be_marked_as_read_only_from_redis_7_on(
    server: str, make: Callable[..., Celery]
) -> None:
    with Redis.from_url(server) as admin:
        if admin.info("server")["redis_version"].startswith("6."):
            with pytest.raises(ResponseError, match="Syntax error"):
                admin.execute_command("ACL", "SETUSER", "batches-reader", "%R~batches:*")
            return
        app, page = make(), make("batches-reader")
        admin.execute_command("ACL", "SETUSER", "batches-reader", "resetkeys", "%R~batches:*")
    batch = Batch(app=app)
    end(app, batch)
    assert Batch.get(batch.bid, app=page).join(5).state == "success"


def test_nothing_that_batches_do_is_denied(server: str, make: Callable[..., Celery]) -> None:
    """The server's own log of denied commands stays empty."""
    app = make()
    with Redis.from_url(server) as admin:
        admin.execute_command("ACL", "LOG", "RESET")
        parent = Batch("parent", app=app, keep_open=True)
        child = Batch("child", parent=parent, app=app).on("finish", app.tasks["told"].s())
        end(app, child, State.DEAD)
        child.retry()
        child.cancel(terminate=True)
        engine = app._batches_extension.engine
        engine.sweeper.start()
        engine.sweeper.stop()
        engine.cancellation.read()
        child.redeliver("finish")
        engine.store.close_address("example.com", busy=False)
        engine.store.ask_address("example.com", "wait", f"{child.bid} finish:0")
        engine.store.open_address("example.com", answered=True)
        list(parent.follow()) if parent.seal() else None
        assert parent.delete()
        denied = {entry["object"] for entry in admin.acl_log()}
    assert denied <= {"client"}, "redis-py tells its name, which Redis 6.2 counts among what is dangerous"


def test_one_tenant_neither_reads_nor_changes_nor_sweeps_anothers_batches(
    server: str, make: Callable[..., Celery]
) -> None:
    ours, theirs = make(prefix="ours"), make(prefix="theirs")
    batch = Batch("ours", app=ours)
    end(ours, batch)
    assert list(Batch.all(app=theirs)) == []
    with pytest.raises(NoSuchBatch):
        Batch.get(batch.bid, app=theirs)
    assert list(theirs._batches_extension.engine.store.walk_live()) == []
    # Nor does it help a tenant to configure the prefix of another one.
    spy = Celery(set_as_current=False, broker="memory://")
    spy.conf.update(batches_backend_url=theirs.conf.batches_backend_url, batches_prefix="ours")
    Batches(spy)
    with pytest.raises(StoreUnavailable, match="does not allow its user"):
        Batch.get(batch.bid, app=spy)
    with pytest.raises(StoreUnavailable, match="does not allow its user"):
        Batch(app=spy, keep_open=True).add()
    spy._batches_extension.reset()
    spy.close()
    assert Batch.get(batch.bid, app=ours).status().state == "success"


def test_a_denied_channel_changes_no_count_and_no_callback(server: str, make: Callable[..., Celery]) -> None:
    app = make()
    with Redis.from_url(server) as admin:
        admin.execute_command("ACL", "SETUSER", "batches", "resetchannels")
    batch = Batch(app=app).on("success", app.tasks["told"].s())
    end(app, batch)
    status = batch.status()
    assert (status.succeeded, status.state, status.callbacks[0].state) == (1, "success", "due")
    url_as(server)
