"""A retry sends the same arguments, headers and options again, or says why it cannot."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Callable, Iterator
from decimal import Decimal
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from celery import Celery, chain, chord, group
from celery.app.task import Context

from celery_batches_notify import Batch
from celery_batches_notify.messages.kept_calls import (
    CHORD_IS_OVER,
    HEADERS_NOT_JSON,
    NOT_JSON,
    TOO_LONG,
    is_json,
)
from celery_batches_notify.testing import drain
from celery_batches_notify.worker.in_flight import field_of, read_in_flight, write_in_flight

Runs = list[Any]
AT = dt.datetime(2026, 11, 27, 12, 30, 1, 250, tzinfo=dt.UTC)


@pytest.fixture
def runs() -> Runs:
    """The arguments and headers of each run of the member."""
    return []


def failing_first(app: Celery, runs: Runs, see: Callable[[Any, tuple[Any, ...]], object]) -> Any:
    """A member whose first run fails after it has noted its arguments and headers."""

    @app.task(name="member", bind=True, shared=False)
    def member(self: Any, *args: Any) -> None:
        runs.append(see(self, args))
        if len(runs) == 1:
            raise ValueError("once")

    return member


def run_twice(batch: Batch) -> Batch:
    assert drain(batch).dead == 1
    batch.retry()
    drain(batch)
    return batch


# -- arguments ------------------------------------------------------------------------------------


@pytest.fixture(params=["json", "pickle"])
def any_app(request: pytest.FixtureRequest, make_app: Callable[..., Celery]) -> Celery:
    return make_app(task_serializer=request.param, accept_content=["json", "pickle"])


@pytest.fixture
def pickling(make_app: Callable[..., Celery]) -> Celery:
    return make_app(task_serializer="pickle", accept_content=["json", "pickle"])


def exact(_: Any, args: tuple[Any, ...]) -> str:
    return repr(args)


@pytest.mark.parametrize(
    "arg",
    [
        {"1": "a", "nested": [{"x": None, "y": [True, 1.5, float("nan"), "ü \ud800"]}]},
        [AT, AT.date(), AT.timetz(), Decimal("1.10"), UUID(int=7), b"\x00\xff"],
    ],
    ids=["plain", "typed"],
)
def test_what_json_holds_comes_again_as_it_was(any_app: Celery, runs: Runs, arg: object) -> None:
    batch = Batch(app=any_app)
    batch.add(failing_first(any_app, runs, exact).s(arg, "second"))
    assert run_twice(batch).status().state == "success"
    assert runs[0] == runs[1]


class Words(str):
    __slots__ = ()


@pytest.mark.parametrize(
    "arg",
    [
        {1: "a", 2: "b"},
        (1, (2, 3)),
        [[(1,)]],
        {"a": {None: 1}},
        {1, 2},
        bytearray(b"x"),
        Words("x"),
        AT.astimezone(dt.timezone(dt.timedelta(hours=2), "named")),
    ],
    ids=repr,
)
def test_what_json_would_change_is_not_sent_again(pickling: Celery, runs: Runs, arg: object) -> None:
    batch = Batch(app=pickling)
    batch.add(failing_first(pickling, runs, exact).s(arg))
    assert run_twice(batch).status().unsendable == {NOT_JSON: 1}
    assert (len(runs), batch.status().state) == (1, "dead")


def test_arguments_of_later_links_that_json_would_change_keep_the_call_back(
    pickling: Celery, runs: Runs
) -> None:
    member = failing_first(pickling, runs, exact)
    plain, tuples = Batch(app=pickling), Batch(app=pickling)
    plain.add(chain(member.si(1), member.si([2]).set(link=member.si(3))))
    assert run_twice(plain).status().state == "success"
    runs.clear()
    tuples.add(chain(member.si(1), member.si((2,))))
    assert run_twice(tuples).status().unsendable == {NOT_JSON: 1}


def test_what_a_member_does_to_its_arguments_does_not_go_into_its_retry(any_app: Celery, runs: Runs) -> None:
    @any_app.task(name="member", shared=False)
    def member(rows: list, options: dict, *, more: dict) -> None:
        runs.append(json.dumps([rows, options, more]))
        rows.clear()
        options["deep"]["list"].append(len(runs))
        more["gone"] = more.pop("here")
        if len(runs) == 1:
            raise ValueError("once")

    batch = Batch(app=any_app)
    batch.add(member.s([1, 2], {"deep": {"list": []}}, more={"here": 1}))
    assert run_twice(batch).status().state == "success"
    assert runs[0] == runs[1]


def test_arguments_that_are_too_deep_or_too_long_are_no_error(any_app: Celery, runs: Runs) -> None:
    deep: list = []
    for _ in range(300):
        deep = [deep]
    batch = Batch(app=any_app)
    batch.add(failing_first(any_app, runs, lambda *_: None).s(deep, "x" * 20_000))
    assert run_twice(batch).status().unsendable == {TOO_LONG: 1}


def test_a_value_that_holds_itself_is_not_json() -> None:
    endless: list = []
    endless.append(endless)
    assert not is_json(endless)


# -- headers and options --------------------------------------------------------------------------


def headers_seen(self: Any, _: Any) -> tuple[object, ...]:
    request = self.request
    return getattr(request, "tenant", None), (request.headers or {}).get("tenant"), request.batches


@pytest.mark.parametrize("headers", [{"tenant": "acme", "n": [1, {"x": None}]}, {}], ids=["some", "none"])
def test_a_retry_bears_the_headers_of_the_user(app: Celery, runs: Runs, headers: dict[str, object]) -> None:
    batch = Batch(app=app)
    batch.add(failing_first(app, runs, headers_seen).s().set(headers=headers))
    assert run_twice(batch).status().state == "success"
    mark = {"bid": batch.bid, "index": 0}
    tenant = headers.get("tenant")
    assert runs == [(tenant, tenant, mark), (tenant, tenant, mark | {"round": 1})]


def test_a_retry_bears_the_inner_headers_that_a_tracer_put_there(app: Celery, runs: Runs) -> None:
    def seen(self: Any, _: Any) -> object:
        return {k: v for k, v in self.request.headers.items() if k != "batches"}, self.request.batches

    batch = Batch(app=app)
    batch.add(failing_first(app, runs, seen).s().set(headers={"headers": {"trace": "t"}}))
    assert run_twice(batch).status().state == "success"
    assert [inner for inner, _ in runs] == [{"trace": "t"}] * 2
    assert [mark.get("round", 0) for _, mark in runs] == [0, 1]


def test_headers_that_json_would_change_keep_the_call_back(pickling: Celery, runs: Runs) -> None:
    batch = Batch(app=pickling)
    batch.add(failing_first(pickling, runs, headers_seen).s().set(headers={"tenant": {1: 2}}))
    assert run_twice(batch).status().unsendable == {HEADERS_NOT_JSON: 1}


def test_headers_of_dead_letters_are_left_out(app: Celery, runs: Runs) -> None:
    """RabbitMQ drops a message that seems to go round in circles."""
    headers = {"x-death": [{"count": 1}], "x-first-death-queue": "q", "x-mine": 1}
    batch = Batch(app=app)
    batch.add(failing_first(app, runs, lambda self, _: set(self.request.headers)).s().set(headers=headers))
    assert run_twice(batch).status().state == "success"
    assert runs == [{*headers, "batches"}, {"x-mine", "batches"}]


def test_a_retry_bears_stamps_and_options(app: Celery, runs: Runs) -> None:
    def seen(self: Any, _: Any) -> dict[str, object]:
        names = (
            "stamped_headers",
            "stamps",
            "shadow",
            "timelimit",
            "ignore_result",
            "reply_to",
            "delivery_info",
        )
        return {name: getattr(self.request, name) for name in names}

    signature = failing_first(app, runs, seen).s()
    signature.set(shadow="shown", time_limit=60, soft_time_limit=50, ignore_result=True, priority=3)
    signature.set(reply_to="mine")
    signature.stamp(customer="42")
    batch = Batch(app=app)
    batch.add(signature)
    assert run_twice(batch).status().state == "success"
    assert runs[0] == runs[1]
    assert (runs[0]["stamps"], runs[0]["ignore_result"]) == ({"customer": "42"}, True)


def received(headers: dict[str, Any], body: bytes = b'[[7], {}, {"chord": null}]') -> SimpleNamespace:
    """A request as a worker's main process holds it."""
    head = {"id": "t", "task": "member", "retries": 0, "lang": "py", "batches": {"bid": "b" * 22, "index": 0}}
    return SimpleNamespace(
        request_dict=head | headers, body=body, content_type="application/json", content_encoding="utf-8"
    )


def lost(headers: dict[str, Any], **more: Any) -> tuple[dict[str, Any], str]:
    """Return the call of a member that was lost with its worker, or why it cannot be sent again."""
    field = field_of("t", {}, None, 0)
    record = read_in_flight(field, write_in_flight(received(headers, **more), keep=True))
    assert record is not None
    call, why = record.call
    return json.loads(call or "{}"), why


@pytest.mark.parametrize("inner", [False, True])
def test_a_lost_member_is_sent_again_with_the_headers_of_the_user(inner: bool) -> None:
    headers = {"tenant": "acme", "x-death": [1]}
    mirrored = {**headers, "batches": {"bid": "b" * 22, "index": 0}}
    call, _ = lost({"headers": mirrored} if inner else headers)
    assert call["options"]["headers"] == {"tenant": "acme"}
    assert "headers" not in lost({})[0]["options"]


def test_a_lost_member_is_sent_again_with_its_stamps_and_to_its_chord() -> None:
    """Celery does not know that it was lost: the chord still waits for it."""
    stamps = {"stamped_headers": ["customer"], "stamps": {"customer": ["42"]}, "ignore_result": True}
    call, _ = lost(stamps, body=b'[[7], {}, {"chord": {"task": "body"}}]')
    options = call["options"]
    assert (options["stamped_headers"], options["customer"]) == (["customer"], ["42"])
    assert (options["ignore_result"], options["chord"]) == (True, {"task": "body"})


def test_a_lost_members_record_says_that_its_headers_are_not_json() -> None:
    assert lost({"tenant": object()}) == ({}, HEADERS_NOT_JSON)
    assert lost({"tenant": {1: 2}}) == ({}, HEADERS_NOT_JSON)


def test_a_request_without_options_is_no_error() -> None:
    assert lost({}, body=b"[[], {}, null]")[0]["args"] == []
    assert Context().id is None


# -- parts of chords ------------------------------------------------------------------------------


@pytest.fixture
def chord_app(make_app: Callable[..., Celery], server_url: str) -> Iterator[Celery]:
    app = make_app(result_backend=server_url)
    yield app
    app.backend.client.close()


@pytest.mark.parametrize("where", ["header", "chain in a header", "group in a chain", "chord in a header"])
def test_a_dead_part_of_a_chord_is_not_resent_because_celery_gave_the_chord_up(
    chord_app: Celery, runs: Runs, where: str
) -> None:
    @chord_app.task(name="other", shared=False)
    def other(*_: object) -> str:
        runs.append("other")
        return "other"

    t = other.si()
    dies = failing_first(chord_app, runs, lambda *_: "dies").si()
    canvas = {
        "header": lambda: chord([dies, t], t),
        "chain in a header": lambda: chord([chain(dies, t), t], t),
        "group in a chain": lambda: chain(group(dies, t), t),
        "chord in a header": lambda: chord([chord([dies, t], t), t], t),
    }[where]()
    batch = Batch(app=chord_app)
    batch.add(canvas)
    before = drain(batch)
    assert (before.state, before.dead, before.unsendable) == ("dead", 1, {CHORD_IS_OVER: 1})
    ran = list(runs)
    assert batch.retry() == 0
    after = drain(batch)
    assert (after.state, after.dead, runs) == ("dead", 1, ran)


def test_a_dead_task_before_a_chord_is_sent_again_and_the_chord_runs(chord_app: Celery, runs: Runs) -> None:
    @chord_app.task(name="other", shared=False)
    def other(*_: object) -> None:
        runs.append("other")

    batch = Batch(app=chord_app)
    dies = failing_first(chord_app, runs, lambda *_: "dies")
    batch.add(chain(dies.si(), chord([other.si(), other.si()], other.si()), other.si()))
    assert run_twice(batch).status().state == "success"
    assert runs == ["dies", "dies", "other", "other", "other", "other"]
