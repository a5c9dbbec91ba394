"""A store that loses the last of what it had acknowledged (T11, T17): late, and never early."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.membership import State
from celery_batches_notify.store.store import Store
from tests.chaos.history import find_what_is_early, read_steps, replay
from tests.chaos.own_server import AOF, FORGETFUL, OwnServer
from tests.chaos.reports import (
    Report,
    app_at,
    called_ids,
    open_batch,
    report_all,
    runs_of,
    states_of,
    store_results,
)
from tests.chaos.scene import is_full
from tests.support.servers import wait_until
from tests.support.topologies import has_all

BATCHES, TOGETHER, MEMBERS = (40, 8, 12) if is_full() else (16, 4, 12)
CUTS = 500 if is_full() else 30
FAILOVERS = 20 if is_full() else 3
AT_ONCE = (*FORGETFUL, "--repl-diskless-sync-delay", "0")


def store_of(app: Celery) -> Store:
    return app._batches_extension.engine.store


def live(app: Celery, draw: random.Random) -> dict[str, list[list[Report]]]:
    """Let some batches live to their end; what was told of their members."""
    told = {}
    for _ in range(BATCHES // TOGETHER):
        opened = [open_batch(app, MEMBERS) for _ in range(TOGETHER)]
        group = {
            b.bid: [runs_of(m, draw, dies=0.1 * (n % 2)) for m in ms] for n, (b, ms) in enumerate(opened)
        }
        runs = [run for runs in group.values() for run in runs]
        draw.shuffle(runs)
        report_all(app, runs)
        told |= group
    return told


def test_every_prefix_of_the_append_only_file_is_never_early(
    start_server: Callable[..., OwnServer], draw: random.Random
) -> None:
    lived, empty = start_server("lived"), start_server("empty", *FORGETFUL)
    with app_at(lived.url) as app:
        bids = list(live(app, draw))
    steps = list(read_steps(lived.append_only_file.read_bytes()))
    with app_at(empty.url) as app:
        store = store_of(app)
        for step in steps:
            replay(empty.client, step)
            touched = {bid for bid in bids for command in step.commands if bid.encode() in b" ".join(command)}
            for bid in touched:
                assert find_what_is_early(store, bid) == [], f"at byte {step.end}"
        ended = [store.read_status(bid).finish_at for bid in bids]
    print(f"{len(steps)} steps of {len(bids)} batches")
    assert all(ended)


def test_a_file_cut_at_any_byte_loads_and_reconcile_makes_it_exact(
    start_server: Callable[..., OwnServer], draw: random.Random, tmp_path: Path
) -> None:
    """What was lost is learnt again from the result backend."""
    lived, results = start_server("lived"), start_server("results", *FORGETFUL)
    with app_at(lived.url, result_backend=results.url) as app:
        told = live(app, draw)
        store_results(app, [run for runs in told.values() for run in runs])
    lived.kill()
    size = lived.append_only_file.stat().st_size
    for _ in range(CUTS):
        cut = draw.randrange(size)
        directory = tmp_path / f"cut-at-{cut}"
        shutil.copytree(lived.directory, directory)
        again = OwnServer(directory, *AOF)
        with again.append_only_file.open("r+b") as file:
            file.truncate(cut)
        again.start()
        try:
            with app_at(again.url, result_backend=results.url) as app:
                repair_and_compare(app, told, f"cut at byte {cut} of {size}")
        finally:
            again.close()
            shutil.rmtree(directory)


def repair_and_compare(app: Celery, told: dict[str, list[list[Report]]], what: str) -> None:
    """Nothing is early; and what had been sealed comes right."""
    store, complete, late = store_of(app), 0, 0
    for bid, runs in told.items():
        assert find_what_is_early(store, bid) == [], what
        if not store.client.hexists(store.keys.batch(bid), "sealed_at"):
            continue
        late += store.client.hexists(store.keys.batch(bid), "finish_at") is False
        Batch.get(bid, app=app).reconcile()
        ends = Counter(reports[-1][1].state for reports in runs)
        assert Counter(states_of(app, bid)) == ends, what
        assert find_what_is_early(store, bid) == [], what
        assert store.read_status(bid).finish_at is not None
        complete += 1
    print(f"{what}: {complete} of {len(told)} batches made exact, {late} of them were late")


@pytest.mark.parametrize("lost", [0, 7, 500] if is_full() else [0, 23])
def test_a_failover_that_loses_reports_is_never_early_and_repeats_the_same_ids(
    start_server: Callable[..., OwnServer], draw: random.Random, lost: int
) -> None:
    """The replica is promoted first, and the old master goes on for a while: those writes are lost (M12)."""
    for n in range(FAILOVERS):
        master, replica = start_server(f"master-{n}", *AT_ONCE), start_server(f"replica-{n}", *AT_ONCE)
        replica.client.replicaof("127.0.0.1", master.port)
        wait_until(lambda r=replica: r.client.info("replication")["master_link_status"] == "up")
        backend = {"result_backend": start_server(f"results-{n}", *FORGETFUL).url}
        with app_at(master.url) as before, app_at(replica.url, **backend) as after:
            batch, members = open_batch(before, 600 if is_full() else 60)
            runs = [runs_of(member, draw) for member in members]
            first = draw.randrange(len(runs) - lost) if n else len(runs) - lost
            report_all(before, runs[:first])
            wait_until(
                lambda m=master, r=replica: has_all(r.client, m.client), what="the replica's last write"
            )
            replica.client.replicaof("NO", "ONE")
            report_all(before, runs[first : first + lost])
            told_before = called_ids(before)
            master.kill()
            report_all(after, runs[first + lost :])
            assert find_what_is_early(store_of(after), batch.bid) == []
            status = Batch.get(batch.bid, app=after).status()
            assert (status.state == "success") == (lost == 0 or (status.succeeded == len(members)))
            assert status.succeeded == len(members) - lost
            store_results(after, runs)
            Batch.get(batch.bid, app=after).reconcile()
            assert Counter(states_of(after, batch.bid)) == {State.SUCCEEDED: len(members)}
            wanted = {f"cb_{batch.bid}_{event}_0" for event in ("complete", "finish", "success")}
            told_after = called_ids(after)
            assert {*told_before, *told_after} == wanted
            assert max(Counter(told_before + told_after).values()) <= 1 + (lost > 0)
            assert set(told_after) == wanted or not lost
        print(f"lost {lost} of {len(members)} reports after {first}; told before {len(told_before)}")
