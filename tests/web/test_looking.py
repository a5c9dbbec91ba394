"""The costly look at broker and workers: on a click, once for all who click, in the words of the doctor."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from celery import Celery
from starlette.testclient import TestClient

from celery_batches_notify.doctor.examination import Examination, examine_batch
from celery_batches_notify.engine import Engine, find_engine
from celery_batches_notify.web import status_page
from celery_batches_notify.web.looking import LOOKED_SECONDS, WAITERS_AT_MOST, Looker
from tests.support.servers import wait_until
from tests.web.scene import make_batch


def test_several_who_look_at_once_ask_once(app: Celery, monkeypatch: pytest.MonkeyPatch) -> None:
    batch, engine = make_batch(app, 2), find_engine(app)
    now, asked = [0.0], []

    def examine(engine: Engine, bid: str, _: int) -> Examination:
        asked.append(bid)
        return Examination(status=engine.store.read_status(bid), lines=())

    monkeypatch.setattr("celery_batches_notify.web.looking.examine_batch", examine)
    looker = Looker(clock=lambda: now[0])
    with ThreadPoolExecutor(8) as pool:
        looks = list(pool.map(lambda _: looker.look(engine, batch.bid), range(20)))
    assert len(asked) == 1
    assert len({id(look) for look in looks}) == 1
    now[0] = LOOKED_SECONDS - 0.1
    looker.look(engine, batch.bid)
    assert len(asked) == 1
    now[0] = LOOKED_SECONDS
    looker.look(engine, batch.bid)
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

    monkeypatch.setattr("celery_batches_notify.web.looking.examine_batch", examine)
    looker = Looker()
    monkeypatch.setattr("celery_batches_notify.web.application.Looker", lambda: looker)
    client = TestClient(status_page(app))
    with ThreadPoolExecutor(WAITERS_AT_MOST) as pool:
        looks = [pool.submit(looker.look, engine, batch.bid) for _ in range(WAITERS_AT_MOST)]
        wait_until(lambda: looker._places._value == 0, what="all places taken")
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
