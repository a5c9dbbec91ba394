"""The mistakes of newcomers, and the error texts that help."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable

import pytest
from celery import Celery
from celery.local import Proxy
from redis import Redis

from celery_batches_notify import (
    Batch,
    Batches,
    BatchesError,
    ConfigurationError,
    EnqueueError,
    InvalidCall,
    InvalidCallback,
    InvalidState,
    NoSuchBatch,
    StoreUnavailable,
)
from celery_batches_notify.model import STATES, Event
from celery_batches_notify.notifiers import Email

NOWHERE = "127.0.0.1:1"


def work(*_: object) -> None:
    """Be a task."""


class Flask:
    """Stands for another object named `app`, such as Flask's."""


async def coroutine() -> None:
    """Be a coroutine function."""


@pytest.fixture
def app(make_app: Callable[..., Celery]) -> Celery:
    app = make_app()
    app.task(work, name="proj.work", shared=False)
    return app


def refused(kind: type[BatchesError], call: Callable[..., object], *args: object, **options: object) -> str:
    with pytest.raises(kind) as caught:
        call(*args, **options)
    return str(caught.value)


# -- on() -----------------------------------------------------------------------------------------


def test_a_task_as_a_callback_is_shown_as_a_signature(app: Celery) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, "success", app.tasks["proj.work"])
    assert words == "on() takes a signature, got the task 'proj.work': write work.s()"


def test_the_result_of_a_call_as_a_callback_says_that_it_was_called(app: Celery) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, "success", app.tasks["proj.work"].delay())
    assert "got the result of a call: write task.s(), not task.delay()" in words


@pytest.mark.parametrize(
    ("function", "name"),
    [(lambda status: None, "<lambda>"), (work, "work"), (coroutine, "coroutine"), ("".join, "join")],
    ids=["lambda", "function", "coroutine", "method"],
)
def test_a_function_as_a_callback_is_told_to_become_a_task(app: Celery, function: object, name: str) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, "success", function)
    assert f"so it must be a task, got the function {name}: declare it with @app.task" in words


def test_a_notifier_object_as_a_callback_is_shown_as_its_class(app: Celery) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, "success", Email(to="me@example.com"))
    assert words.endswith("got a Email object: write on(event, Email, option=…)")


def test_options_in_the_place_of_the_target_are_not_repeated(app: Celery) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, "success", {"url": "https://hush.example.com"})
    assert "a notifier's class or its name, got dict" in words
    assert "hush" not in words


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        ("completed", "(did you mean 'complete'?)"),
        ("Success", "(did you mean 'success'?)"),
        ("sucess", "(did you mean 'success'?)"),
        ("finished", "(did you mean 'finish'?)"),
        ("cancelled", "(did you mean 'cancel'?)"),
        ("failure", "for failures take 'death' (the first member failed for good) or 'finish'"),
        ("ERROR", "for failures take 'death' (the first member failed for good) or 'finish'"),
        ("done", "take 'finish' (all members have ended), or 'complete'"),
        ("xyz", "there is no event 'xyz'; the events are cancel"),
    ],
)
@pytest.mark.parametrize("method", ["on", "redeliver", "join"])
def test_a_misspelt_event_is_put_right(app: Celery, method: str, event: str, hint: str) -> None:
    batch = Batch(app=app)
    if method == "on":
        words = refused(InvalidCallback, batch.on, event, "email")
    else:
        batch.seal()
        words = refused(InvalidCallback, getattr(batch, method), event=event)
    assert hint in words
    assert words.endswith(f"; the events are {', '.join(Event)}")


def test_an_event_and_a_target_that_changed_places_are_refused(app: Celery) -> None:
    words = refused(InvalidCallback, Batch(app=app).on, Email, "complete")
    assert words == "the event must be a string such as 'complete', got type"


def test_a_misspelt_notifier_or_profile_is_put_right(make_app: Callable[..., Celery]) -> None:
    app = make_app(batches_notifications={"email:billing": {"to": "me@example.com"}})
    assert "'emial' (did you mean 'email'?)" in refused(InvalidCallback, Batch(app=app).on, "death", "emial")
    words = refused(InvalidCallback, Batch(app=app).on, "death", "email:biling")
    assert "no profile 'email:biling' (did you mean 'email:billing'?): describe it in" in words


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("slack", "slack: url is missing: write it into batches_notifications['slack']"),
        ("slack:ops", "slack: url is missing: write it into batches_notifications['slack:ops']"),
        (
            "email",
            "email: to is missing: give it to on(event, 'email', to=…), or write it into "
            "batches_notifications['email']",
        ),
    ],
)
def test_a_missing_option_says_where_to_write_it(
    make_app: Callable[..., Celery], target: str, words: str
) -> None:
    app = make_app(batches_notifications={"slack:ops": {}})
    assert refused(ConfigurationError, Batch(app=app).on, "death", target) == words


def test_a_misspelt_option_is_put_right(app: Celery) -> None:
    words = refused(ConfigurationError, Batch(app=app).on, "death", "email", to="me@example.com", too="x")
    assert words.startswith("email: there is no option 'too' (did you mean 'to'?); its options are to, cc, ")


@pytest.mark.parametrize("to", [42, 4.2, True])
def test_an_address_of_the_wrong_type_is_refused_in_its_terms(app: Celery, to: object) -> None:
    words = refused(ConfigurationError, Batch(app=app).on, "death", "email", to=to)
    assert words == f"email: to must be an address or a list of addresses, got {to!r}"


def test_a_misspelt_notifier_in_the_settings_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    app = Celery(set_as_current=False)
    app.conf.update(
        batches_backend_url=f"redis://{NOWHERE}",
        batches_notifiers={"pager": f"{__name__}.Flask"},
        batches_notifications={"emial": {}, "slak:ops": {"url": "hush"}, "pager:x": {}, "email:boss": {}},
    )
    assert Batches(app).engine
    assert "batches_notifications: unknown notifier 'emial' (did you mean 'email'?)" in caplog.text
    assert "unknown notifier 'slak:ops' (did you mean 'slack'?)" in caplog.text
    assert caplog.text.count("unknown notifier") == 2
    assert "hush" not in caplog.text


# -- calls ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["map", "starmap"])
@pytest.mark.parametrize(
    "given", [len, coroutine, "proj.work", None], ids=["builtin", "coroutine", "name", "none"]
)
def test_map_of_what_is_no_task_says_what_it_takes(
    app: Celery, redis: Redis, method: str, given: object
) -> None:
    words = refused(InvalidCall, getattr(Batch(app=app), method), given, [(1,)])
    assert words.startswith(f"map() and starmap() take a task or a signature, got {given!r}: ")
    assert redis.dbsize() == 0


def test_map_of_a_tasks_delay_names_the_task(app: Celery, redis: Redis) -> None:
    words = refused(InvalidCall, Batch(app=app).map, app.tasks["proj.work"].delay, [1])
    assert words.endswith(": give the task itself, not its delay or apply_async")
    assert redis.dbsize() == 0


def test_add_of_a_list_is_shown_with_a_star(app: Celery, redis: Redis) -> None:
    calls = [app.tasks["proj.work"].s(1), app.tasks["proj.work"].s(2)]
    for given in (calls, tuple(calls), iter(calls), (call for call in calls)):
        words = refused(InvalidCall, Batch(app=app).add, given)
        assert "takes signatures one by one" in words
        assert words.endswith(": write add(*signatures)")
    assert redis.dbsize() == 0


@pytest.mark.parametrize("given", [len, "proj.work", {"task": "x"}], ids=["builtin", "name", "dict"])
def test_add_of_what_is_no_signature_sends_nothing(app: Celery, redis: Redis, given: object) -> None:
    words = refused(InvalidCall, Batch(app=app).add, app.tasks["proj.work"].s(), given)
    assert words == f"add() takes signatures, such as task.s(…), got {given!r}"
    assert redis.dbsize() == 0


def test_an_error_of_a_wrong_call_is_a_type_error() -> None:
    assert issubclass(InvalidCall, TypeError)
    assert issubclass(InvalidState, ValueError)


def test_a_bid_as_the_parent_is_shown_as_a_batch(app: Celery) -> None:
    words = refused(ConfigurationError, Batch, parent="0123456789abcdef", app=app)
    assert words == "parent must be a Batch, got str: Batch.get(bid) returns the batch with an id"


def test_async_with_explains_itself_and_opens_nothing(app: Celery, redis: Redis) -> None:
    async def enter() -> None:
        async with Batch(app=app):
            raise AssertionError("the block was entered")

    words = refused(InvalidCall, asyncio.run, enter())
    assert "write a plain `with batch:` in a coroutine too" in words
    assert redis.dbsize() == 0


# -- a batch that is not stored -------------------------------------------------------------------

NOT_YET = "is not stored yet: the end of its block stores it"
READERS: dict[str, Callable[[Batch], object]] = {
    "status": lambda batch: batch.status(),
    "follow": lambda batch: batch.follow(),
    "cancel": lambda batch: batch.cancel(),
    "retry": lambda batch: batch.retry(),
    "reconcile": lambda batch: batch.reconcile(),
    "redeliver": lambda batch: batch.redeliver("complete"),
}


@pytest.mark.parametrize("name", READERS)
def test_a_batch_before_the_end_of_its_block_says_when_it_is_stored(app: Celery, name: str) -> None:
    batch = Batch(app=app)
    assert NOT_YET in refused(NoSuchBatch, READERS[name], batch)
    with batch:
        app.tasks["proj.work"].delay()
        assert NOT_YET in refused(NoSuchBatch, READERS[name], batch)
    READERS[name](batch)


def test_a_batch_that_is_never_stored_cannot_be_awaited(app: Celery) -> None:
    assert NOT_YET in refused(NoSuchBatch, Batch(app=app).join, timeout=0)


def test_a_batch_that_was_deleted_is_not_said_to_come(app: Celery) -> None:
    batch = Batch(app=app)
    batch.seal()
    batch.delete()
    assert "was deleted" in refused(NoSuchBatch, batch.status)


def test_a_state_that_is_none_is_refused_at_the_call_with_those_there_are(app: Celery) -> None:
    words = refused(InvalidState, Batch.all, state="done", app=app)
    assert words == f"there is no state 'done'; the states are {', '.join(STATES)}"
    assert "(did you mean 'success'?)" in refused(InvalidState, Batch.all, state="Succes", app=app)


def test_each_state_can_be_asked_for(app: Celery) -> None:
    batch = Batch(app=app)
    batch.seal()
    found = {state: [each.bid for each in Batch.all(state=state, app=app)] for state in STATES}
    assert found == {state: [batch.bid] if state == "success" else [] for state in STATES}


# -- servers --------------------------------------------------------------------------------------


def test_a_broker_that_is_away_is_named_with_the_reason(make_app: Callable[..., Celery]) -> None:
    retry = {"max_retries": 0}
    app = make_app(broker=f"amqp://user:hunter2@{NOWHERE}//", task_publish_retry_policy=retry)
    app.task(work, name="proj.work", shared=False)
    batch = Batch(app=app)
    with pytest.raises(EnqueueError) as caught, batch:
        app.tasks["proj.work"].delay()
    words = str(caught.value)
    assert f"1 unknown: amqp://user:**@{NOWHERE}//: [Errno 111] Connection refused; the batch stays" in words
    assert "hunter2" not in words
    batch.delete()


def test_the_password_is_taken_out_of_what_the_broker_says(app: Celery) -> None:
    app.conf.broker_url = "redis://:hunter2@localhost/0"

    def send(*_: object, **__: object) -> None:
        raise RuntimeError("cannot reach hunter2@localhost\nand so on")

    app._batches_extension._sender.__dict__["send"] = send
    with pytest.raises(EnqueueError) as caught, Batch(app=app):
        app.tasks["proj.work"].delay()
    assert "redis://:**@localhost:6379/0: RuntimeError: cannot reach **@localhost and so on;" in str(
        caught.value
    )


def test_a_store_that_is_away_names_the_setting_that_it_comes_from() -> None:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=f"redis://{NOWHERE}/0")
    Batches(app)
    words = refused(StoreUnavailable, Batch(app=app).seal)
    assert re.search(r"Connection refused; is it running\? \(batches_backend_url\)$", words)
    other = Celery(broker=f"redis://{NOWHERE}/0", set_as_current=False)
    Batches(other)
    words = refused(StoreUnavailable, Batch(app=other).seal)
    assert words.endswith("(from broker_url, because batches_backend_url is not set)")


def test_a_database_that_is_not_there_names_the_setting(server_url: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.update(batches_backend_url=f"{server_url.rpartition('/')[0]}/999")
    Batches(app)
    words = refused(StoreUnavailable, Batch(app=app).seal)
    assert words.endswith("(batches_backend_url)")
    app._batches_extension.reset()


def test_a_store_beside_the_broker_is_a_warning_that_says_how_to_end_it(
    caplog: pytest.LogCaptureFixture,
) -> None:
    app = Celery(broker=f"redis://:hunter2@{NOWHERE}/0", set_as_current=False)
    assert Batches(app).engine
    (record,) = caplog.records
    assert record.getMessage() == (
        "batches_backend_url is not set: batches live beside the broker's queues in "
        f"redis://:**@{NOWHERE}/0; set it, to the same URL if you like, to silence this warning"
    )


# -- Batches(…) -----------------------------------------------------------------------------------


@pytest.mark.parametrize("given", [Flask(), "proj", None, Celery], ids=["flask", "text", "none", "class"])
def test_batches_of_what_is_no_celery_app_says_what_it_takes(given: object) -> None:
    for _ in range(2):
        words = refused(ConfigurationError, Batches, given)
        assert words.startswith(f"Batches takes a Celery app, got {type(given).__name__}: ")
    assert not vars(given) if isinstance(given, Flask) else True


def test_an_app_that_was_refused_is_as_it_was_and_can_be_tried_again(server_url: str) -> None:
    app = Celery(set_as_current=False)
    app.config_from_object({"batches_backend_url": server_url, "batches_linger": 1})
    assert app.conf.task_serializer == "json"  # Celery has read its configuration
    sender, result, steps = app.amqp.send_task_message, app.AsyncResult, set(app.steps["worker"])
    before = dict(vars(app))
    for _ in range(2):
        assert "batches_linger" in refused(ConfigurationError, Batches, app)
    assert vars(app) == before
    assert (app.amqp.send_task_message, app.AsyncResult) == (sender, result)
    assert app.steps["worker"] == steps
    app.conf.batches_linger = 30
    batches = Batches(app)
    assert Batches(app) is batches
    batches.reset()


def test_batches_takes_celery_s_proxy_of_the_current_app(server_url: str) -> None:
    app = Celery(set_as_current=False)
    app.conf.batches_backend_url = server_url
    batches = Batches(Proxy(lambda: app))
    assert batches.app is app
    assert Batches(app) is batches
    assert batches.engine.app is app
    batches.reset()
