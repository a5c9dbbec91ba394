"""`Batch(on_commit=transaction.on_commit)`: a batch leaves at Django's commit, never at a rollback."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from celery import Celery

from celery_batches_notify import Batch, BatchSealed, ConfigurationError, NoSuchBatch

pytest.importorskip("django")


@pytest.fixture(scope="module")
def transaction() -> Iterator[object]:
    """Django's transactions over a database of their own, in memory."""
    from django.db import connections, transaction

    from tests.support.django_project import set_up_django

    set_up_django()
    yield transaction
    connections.close_all()


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()

    @app.task(name="row", shared=False)
    def row(n: int = 0) -> None: ...

    return app


def row(app: Celery) -> object:
    return app.tasks["row"]


def stored(app: Celery) -> list[str]:
    return [batch.bid for batch in Batch.all(app=app)]


def test_a_batch_leaves_when_the_transaction_commits(app: Celery, transaction) -> None:
    with transaction.atomic():
        with Batch(app=app, on_commit=transaction.on_commit) as batch:
            row(app).delay(1)
        added = Batch(app=app, on_commit=transaction.on_commit)
        (result,) = added.add(row(app).s(2))
        mapped = Batch(app=app, on_commit=transaction.on_commit)
        assert mapped.map(row(app), range(3)) == 3
        open_ = Batch(app=app, on_commit=transaction.on_commit, keep_open=True)
        open_.add(row(app).s(2))
        open_.seal()
        assert stored(app) == []
        with pytest.raises(NoSuchBatch, match="commit"):
            batch.status()
    totals = [(each.status().total, each.status().state) for each in (batch, added, mapped, open_)]
    assert totals == [(1, "running"), (1, "running"), (3, "running"), (1, "running")]
    assert app._batches_extension.engine.store.read_members(added.bid, 0, 1)[0].id == result.id


def test_a_rollback_leaves_no_batch(app: Celery, transaction) -> None:
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        with Batch(app=app, on_commit=transaction.on_commit) as parent:
            row(app).delay(1)
            with Batch(app=app, parent=parent):
                row(app).delay(2)
        raise ZeroDivisionError
    assert stored(app) == []


def test_a_child_leaves_with_the_commit_and_is_its_parents_member(app: Celery, transaction) -> None:
    with transaction.atomic():
        with Batch("parent", app=app, on_commit=transaction.on_commit) as parent:
            row(app).delay(1)
            with Batch("child", app=app, parent=parent) as child:
                row(app).delay(2)
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                Batch("lost", app=app, parent=parent).add(row(app).s(3))
                raise ZeroDivisionError
        assert stored(app) == []
    assert set(stored(app)) == {parent.bid, child.bid}
    assert (parent.status().total, parent.status().children, child.status().total) == (2, 1, 1)
    assert child.status().parent_bid == parent.bid


def test_without_a_transaction_it_leaves_at_once(app: Celery, transaction) -> None:
    with Batch(app=app, on_commit=transaction.on_commit) as batch:
        row(app).delay(1)
    assert batch.status().total == 1


def test_a_transaction_that_is_tried_again_may_use_the_same_batch(app: Celery, transaction) -> None:
    batch = Batch(app=app, on_commit=transaction.on_commit)
    for attempt in range(2):
        try:
            with transaction.atomic():
                with batch:
                    row(app).delay(attempt)
                1 / attempt
        except ZeroDivisionError:
            assert stored(app) == []
    assert batch.status().total == 1


def test_a_second_go_in_one_transaction_is_refused_before_the_commit(app: Celery, transaction) -> None:
    def fill(batch: Batch) -> None:
        with batch:
            row(app).delay()

    goes = {
        "block": fill,
        "add": lambda batch: batch.add(row(app).s()),
        "map": lambda batch: batch.map(row(app), [1]),
    }
    batches = {name: Batch(name, app=app, on_commit=transaction.on_commit) for name in goes}
    ran: list[str] = []
    with transaction.atomic():
        for name, go in goes.items():
            with pytest.raises(ZeroDivisionError), transaction.atomic():
                go(batches[name])
                raise ZeroDivisionError
            go(batches[name])
            with pytest.raises(BatchSealed, match="keep_open"):
                go(batches[name])
        sealed = Batch(app=app, on_commit=transaction.on_commit, keep_open=True)
        sealed.add(row(app).s())
        sealed.add(row(app).s())
        sealed.seal()
        with pytest.raises(BatchSealed):
            sealed.add(row(app).s())
        transaction.on_commit(lambda: ran.append("the next function"))
    assert ran == ["the next function"]
    assert [each.status().total for each in (*batches.values(), sealed)] == [1, 1, 1, 2]


@pytest.mark.parametrize("options", [{"on_commit": True}, {"on_commit": print, "autoflush": 10}])
def test_what_cannot_wait_for_a_commit_is_an_error(app: Celery, options: dict[str, object]) -> None:
    with pytest.raises(ConfigurationError, match="on_commit"):
        Batch(app=app, **options)
