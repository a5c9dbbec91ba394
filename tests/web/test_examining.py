"""The costly look at broker and workers: on a click, once for all who click, in the words of the doctor."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from html import unescape
from io import StringIO

import pytest
from celery import Celery
from starlette.testclient import TestClient

from celery_batches_notify.cli.doctor import examine
from celery_batches_notify.cli.output import Output
from celery_batches_notify.doctor.broker_queues import BrokerReading
from celery_batches_notify.doctor.examination import FIXES, Examination, examine_batch
from celery_batches_notify.doctor.locate import Kind, Place, Whereabouts
from celery_batches_notify.doctor.worker_tasks import WorkersReading
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.store.parsing import Member
from celery_batches_notify.web import status_page
from celery_batches_notify.web.examining import KEPT_SECONDS, WAITERS_AT_MOST, Examiner
from tests.support.servers import wait_until
from tests.web.scene import make_batch


def test_several_who_look_at_once_ask_once(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, engine = make_batch(app, 2), find_engine(app)
    now, asked = [0.0], []

    def examine(engine: Engine, bid: str, _: int) -> Examination:
        asked.append(bid)
        return Examination(status=engine.store.read_status(bid), lines=())

    monkeypatch.setattr("celery_batches_notify.web.examining.examine_batch", examine)
    examiner = Examiner(clock=lambda: now[0])
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda _: examiner.examine(engine, batch.bid), range(20)))
    assert len(asked) == 1
    assert len({id(look) for look in looks}) == 1
    now[0] = KEPT_SECONDS - 0.1
    examiner.examine(engine, batch.bid)
    assert len(asked) == 1
    now[0] = KEPT_SECONDS
    examiner.examine(engine, batch.bid)
    assert len(asked) == 2


def test_who_waits_for_a_look_leaves_threads_for_all_others(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = make_batch(app, 2)
    engine, may_end, begun = find_engine(app), threading.Event(), threading.Event()

    def examine(engine: Engine, bid: str, _: int) -> Examination:
        begun.set()
        may_end.wait(60)
        return Examination(status=engine.store.read_status(bid), lines=())

    monkeypatch.setattr("celery_batches_notify.web.examining.examine_batch", examine)
    examiner = Examiner()
    monkeypatch.setattr("celery_batches_notify.web.application.Examiner", lambda: examiner)
    client = TestClient(status_page(app))
    with ThreadPoolExecutor(WAITERS_AT_MOST) as pool:
        looks = [pool.submit(examiner.examine, engine, batch.bid) for _ in range(WAITERS_AT_MOST)]
        wait_until(lambda: examiner._places._value == 0, what="all places taken")
        answer = client.get(f"/{batch.bid}?look=1")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "5")
        assert client.get(f"/{batch.bid}").status_code == 200
        may_end.set()
        assert len({id(look.result()) for look in looks}) == 1
    assert client.get(f"/{batch.bid}?look=1").status_code == 200


def test_the_page_says_word_for_word_what_the_doctor_says(app: Celery) -> None:
    batch = make_batch(app, 2)
    client = TestClient(status_page(app))
    html = client.get(f"/{batch.bid}?look=1").text
    lines = [line.text for line in examine_batch(find_engine(app), batch.bid, 20).lines]
    assert len(lines) > 4
    for line in lines[1:]:  # the first one says how long it has run
        assert line.strip() in html
    assert "Where are they?" not in client.get(f"/{batch.bid}").text


def test_every_place_has_its_sentence_and_its_fix_on_the_page_and_in_the_doctor(
    app: Celery, monkeypatch: pytest.MonkeyPatch
) -> None:
    batch, engine = make_batch(app, len(Kind)), find_engine(app)

    def find(_: Engine, members: Sequence[Member], **__: object) -> Whereabouts:
        places = [
            Place(member=member, kind=kind, where=f"place-{kind.name.lower()}")
            for member, kind in zip(members, Kind, strict=True)
        ]
        return Whereabouts(
            places=tuple(places),
            broker=BrokerReading(readable=True),
            workers=WorkersReading(bare=("bare@x",)),
        )

    monkeypatch.setattr("celery_batches_notify.doctor.examination.locate", find)
    html = unescape(TestClient(status_page(app)).get(f"/{batch.bid}?look=1").text)
    stdout = StringIO()
    code = examine(app, Output(stdout), bid=batch.bid, limit=20)
    said = stdout.getvalue().splitlines()
    assert (len(Kind), code) == (13, 1)
    for kind in Kind:
        line = f"1 {kind}: {FIXES[kind]}"
        assert f"- {line}" in said and line in html, kind
        assert any(f"{kind} place-{kind.name.lower()}" in each for each in said)
        assert f"{kind} place-{kind.name.lower()}" in html
    (bare,) = [line for line in said if "bare@x" in line]
    assert bare in html
    assert not [line for line in said[1:] if line not in html], "word for word the same"
    assert engine.store.read_status(batch.bid).pending == 13
