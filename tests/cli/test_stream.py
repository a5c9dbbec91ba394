"""`batch stream`: the tokens as they are sent, until the batch has ended."""

from __future__ import annotations

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify.cli import stream
from celery_batches_notify.membership import State
from tests.support.servers import wait_until
from tests.support.terminal import Commands, Made, fail, make_batch


def report_when_heard(client: Redis, mades: list[Made]) -> object:
    def report(_: object) -> None:
        for made in mades:
            name = f"batch-{made.bid}"
            wait_until(lambda name=name: client.pubsub_numsub(name)[0][1], what="the subscription")
            client.publish(name, "\x1b[31mred")
            client.publish(name, "+-")
            made.report(State.DEAD, 0, failure=fail(made.ids[0]))
            made.report(State.SUCCEEDED, *range(1, len(made.ids)))

    return report


def test_the_tokens_of_one_batch_are_printed_as_they_are(
    app: Celery, redis: Redis, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ_SECONDS", 0.05)
    made = make_batch(app, 4)
    ran = command("stream", made.bid, meanwhile=report_when_heard(redis, [made]))
    assert (ran.code, ran.stdout, ran.stderr) == (0, "-+++!\n", "")
    assert command("stream", made.bid).stdout == "\n", "nothing is to come"


def test_tokens_that_are_sent_as_the_end_is_looked_for_are_printed(
    app: Celery, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ_SECONDS", 0.05)
    made, look = make_batch(app, 2), stream._have_ended
    reports = [lambda: made.report(State.SUCCEEDED, 0, 1)]

    def report_and_look(*args: object) -> bool:
        while reports:
            reports.pop()()
        return bool(look(*args))

    monkeypatch.setattr(stream, "_have_ended", report_and_look)
    assert command("stream", made.bid).stdout == "++!$\n"


def test_batches_that_end_while_their_subscriptions_are_confirmed_lose_no_token(
    app: Celery, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    mades, look = [make_batch(app, 1) for _ in range(5)], stream._have_ended
    reports = [lambda: [made.report(State.SUCCEEDED) for made in mades]]

    def report_and_look(*args: object) -> bool:
        while reports:
            reports.pop()()
        return bool(look(*args))

    monkeypatch.setattr(stream, "_have_ended", report_and_look)
    ran = command("stream", *(made.bid for made in mades))
    assert ran.stdout.splitlines() == [f"{made.bid} {token}" for made in mades for token in "+!$"]


def test_each_token_of_several_batches_names_its_batch(
    app: Celery, redis: Redis, command: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream, "READ_SECONDS", 0.05)
    mades = [make_batch(app, 2), make_batch(app, 2)]
    ran = command("stream", *(made.bid for made in mades), meanwhile=report_when_heard(redis, mades))
    assert ran.stdout.splitlines() == [f"{made.bid} {token}" for made in mades for token in "-+!"]
    mades = [make_batch(app, 2)]
    records = command("stream", mades[0].bid, "--json", meanwhile=report_when_heard(redis, mades)).records
    assert [record.get("token") for record in records] == ["-", "+", "!", None]
    assert records[-1] == {"exit_code": 0, "final": True}


def test_a_batch_that_is_not_there_is_said_to_be(command: Commands) -> None:
    ran = command("stream", "0123456789abcdef")
    assert (ran.code, ran.stdout) == (4, "")
    assert "there is no batch" in ran.stderr
