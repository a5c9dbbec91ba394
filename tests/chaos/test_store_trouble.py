"""A store that misbehaves while members are reported (T6, T7, T8, T13, T14, T15): counted once, told once."""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify.membership import State
from tests.chaos.journal import Journal
from tests.chaos.listener import Listener
from tests.chaos.own_server import FORGETFUL, OwnServer
from tests.chaos.reports import SUCCEEDED, app_at, called_ids, open_batch, report_all, runs_of, states_of
from tests.chaos.scene import is_full
from tests.chaos.storm import Storm
from tests.support.cut_proxy import cut_proxy
from tests.support.servers import PATIENT

REPORTS = 20_000 if is_full() else 3_000
MEMBERS = 500
CUTS = REPORTS if is_full() else 1_000
SHARE_CUT = 0.2
STRANGE_SECONDS = 2.5  # longer than our client waits for a reply


@pytest.fixture
def server(start_server: Callable[..., OwnServer]) -> OwnServer:
    return start_server("store")


@pytest.fixture
def open_app() -> Iterator[Callable[[str], Celery]]:
    with ExitStack() as stack:
        yield lambda url, **conf: stack.enter_context(app_at(url, **conf))


def batches_are_exact(app: Celery, judge: Celery, draw: random.Random, reports: int) -> None:
    """Report batches through one app, and read through another what came of it."""
    for _ in range(reports // MEMBERS):
        batch, members = open_batch(judge, MEMBERS)
        runs = [runs_of(member, draw) for member in members]
        report_all(app, runs)
        status = judge._batches_extension.engine.store.read_status(batch.bid)
        assert (status.total, status.succeeded, status.failures) == (MEMBERS, MEMBERS, 0)
        assert Counter(states_of(judge, batch.bid)) == {State.SUCCEEDED: MEMBERS}
        print(f"{batch.bid}: {sum(map(len, runs))} reports of {MEMBERS} members, counted {status.succeeded}")


def test_replies_that_are_cut_after_the_script_ran_count_nothing_twice(
    server: OwnServer, open_app: Callable[..., Celery], draw: random.Random, tmp_path: Path
) -> None:
    journal = Journal(tmp_path / "journal")
    with cut_proxy(server.url, seed=draw.randrange(10**6)) as (proxy, url), Listener(server.url, journal):
        app, judge = open_app(url), open_app(server.url)
        app.tasks["chaos.member"]
        proxy.misbehave("cut_reply", share=SHARE_CUT)
        batches_are_exact(app, judge, draw, CUTS)
        proxy.behave()
    print(f"{proxy.struck} replies cut")
    assert proxy.struck > CUTS * SHARE_CUT / 2
    for tokens in tokens_by_batch(journal).values():
        assert tokens.count("+") == MEMBERS
        assert (tokens.count("!"), tokens.count("$"), tokens[-1]) == (1, 1, "$")


def tokens_by_batch(journal: Journal) -> dict[str, str]:
    found: dict[str, str] = {}
    for entry in journal.read():
        found[entry.bid] = found.get(entry.bid, "") + entry.words[0]
    return found


def test_scripts_that_the_server_forgets_all_the_time_are_loaded_again(
    server: OwnServer, open_app: Callable[..., Celery], draw: random.Random
) -> None:
    app = open_app(server.url)
    with Storm({"SCRIPT FLUSH": server.client.script_flush}, every_seconds=0.05, draw=draw) as storm:
        batches_are_exact(app, app, draw, REPORTS)
    print(f"{len(storm.log)} times")
    assert len(storm.log) > 10


def test_a_store_in_every_kind_of_trouble_loses_no_report(
    server: OwnServer, open_app: Callable[..., Celery], draw: random.Random, caplog: pytest.LogCaptureFixture
) -> None:
    """It pauses, is busy, refuses writes, has no memory, cuts everybody, and is killed and loads its file."""
    app = open_app(server.url)
    batch, members = open_batch(app, MEMBERS)
    runs = [runs_of(member, draw) for member in members]
    troubles = [(name, kind) for name, kind in kinds_of_trouble(server).items()]
    draw.shuffle(troubles)
    parts = [runs[n :: len(troubles)] for n in range(len(troubles))]
    for (name, cause), part in zip(troubles, parts, strict=True):
        began = time.monotonic()
        trouble = threading.Thread(target=cause)
        trouble.start()
        report_all(app, part)
        trouble.join()
        print(f"{name}: {len(part)} members reported within {time.monotonic() - began:.1f} s")
    assert Counter(states_of(app, batch.bid)) == {State.SUCCEEDED: MEMBERS}
    assert batch.status().state == "success"
    wanted = [f"cb_{batch.bid}_{event}_0" for event in ("complete", "finish", "success")]
    assert sorted({*called_ids(app)}) == wanted
    assert not [key for key in server.client.scan_iter("batches*") if server.client.ttl(key) == -1]
    assert "not counted" not in caplog.text


def kinds_of_trouble(server: OwnServer) -> dict[str, Callable[[], object]]:
    client = server.client

    def for_a_while(begin: tuple[object, ...], end: tuple[object, ...]) -> None:
        client.execute_command(*begin)
        time.sleep(STRANGE_SECONDS)
        client.execute_command(*end)

    def restart() -> None:
        server.kill()
        time.sleep(STRANGE_SECONDS)
        server.start()

    pause = ("CLIENT", "PAUSE", int(STRANGE_SECONDS * 1000), "WRITE")
    read_only = ("REPLICAOF", "127.0.0.1", "1")
    return {
        "CLIENT PAUSE": lambda: client.execute_command(*pause),
        "DEBUG SLEEP": lambda: client.execute_command("DEBUG", "SLEEP", STRANGE_SECONDS),
        "READONLY": lambda: for_a_while(read_only, ("REPLICAOF", "NO", "ONE")),
        "OOM": lambda: for_a_while(("CONFIG", "SET", "maxmemory", "1"), ("CONFIG", "SET", "maxmemory", "0")),
        "CLIENT KILL": lambda: client.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"),
        "kill -9": restart,
    }


def test_one_report_replayed_by_a_hundred_threads_counts_once(
    start_server: Callable[..., OwnServer], open_app: Callable[..., Celery]
) -> None:
    app = open_app(start_server("forgetful", *FORGETFUL).url, batches_backend_options=PATIENT)
    store = app._batches_extension.engine.store
    batch, members = open_batch(app, 200 if is_full() else 20)
    for member in members:
        answers = at_once(100, lambda m=member: store.record_outcome(m, SUCCEEDED).word)
        assert Counter(answers) == {"counted": 1, "repeated": 99}
    assert batch.status().succeeded == len(members)


def test_the_last_two_members_at_once_end_their_batch_once_in_every_round(
    start_server: Callable[..., OwnServer], open_app: Callable[..., Celery], tmp_path: Path
) -> None:
    server = start_server("forgetful", *FORGETFUL)
    app, journal = open_app(server.url, batches_backend_options=PATIENT), Journal(tmp_path / "journal")
    store = app._batches_extension.engine.store
    with Listener(server.url, journal):
        for _ in range(5_000 if is_full() else 300):
            _, members = open_batch(app, 2)
            todo = list(members)
            answers = at_once(2, lambda left=todo: store.record_outcome(left.pop(), SUCCEEDED).due)
            assert sorted(map(len, answers)) == [0, 3]
    assert set(tokens_by_batch(journal).values()) == {"++!$"}


def at_once(threads: int, act: Callable[[], object]) -> list[object]:
    gate, answers = threading.Barrier(threads), []

    def one() -> None:
        gate.wait()
        answers.append(act())

    running = [threading.Thread(target=one) for _ in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return answers
