"""Where the rows of the outcome table are played: the workers of one pool, and what is done to the rows."""

from __future__ import annotations

import base64
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from uuid import uuid4

import celery
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, Batches
from tests.support.outcome_expect import HELD, Expect, NotHere, Row
from tests.support.servers import Ear, close_store, running_worker, wait_until

PARKED = "parked"
LOST_QUEUE = "lost"
PATIENCE_SECONDS = 45
SETTLE_SECONDS = 2.0
END_SECONDS = 12
COUNTERS = ("total", "pending", "succeeded", "failures", "dead")
MEDDLING = frozenset({"revoke", "twice", "other_content_type", "no_task_name", "bad_eta", "garbled"})
QUICK = ("--without-mingle", "--without-gossip", "--without-heartbeat")


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What became of a row's batch."""

    state: str
    tokens: str
    runs: int
    error: str
    counters: dict[str, int]
    died: bool


class Stage:
    """Plays rows in one pool.

    Rows that harm their worker have workers of their own, on a broker database of their own, so that what
    those workers left behind can be delivered again without touching the others' messages.
    """

    def __init__(self, url: str, pool: str, rows: list[Row]) -> None:
        self.url, self.pool, self.rows = url, pool, rows
        self.redis = Redis.from_url(url, decode_responses=True)
        self.ear = Ear(Redis.from_url(url))
        self.batches: dict[str, Batch] = {}
        self.ids: dict[str, str] = {}
        self.brokers = {"shared": url, "lost": url.removesuffix("/0") + "/1"}
        self.apps = {name: self._app(broker) for name, broker in self.brokers.items()}

    def play(self) -> dict[str, Seen]:
        """Play all rows to their end; return what was seen."""
        shared = [row for row in self.rows if row.scene == "shared"]
        others = [row for row in self.rows if row.scene != "shared"]
        shared.sort(key=lambda row: row.act != "revoke")  # a worker that is busy hears of it too late
        queue = f"shared-{self.pool}"
        with self._worker("shared", queue), ThreadPoolExecutor() as threads:
            harm = threads.submit(self._play_harmful, others)
            for row in shared:
                self._launch(row, "shared", queue)
                if row.act == "revoke":
                    self._revoke(row, queue)
            for row in shared:
                if row.act not in ("", "revoke"):
                    getattr(self, f"_{row.act}")(row, queue)
            self._wait_for(shared)
            harm.result()
            time.sleep(SETTLE_SECONDS)
        return {row.name: self._read_outcome(row) for row in self.rows}

    def close(self) -> None:
        self.ear.close()
        self.redis.close()
        for app in self.apps.values():
            app.close()
            close_store(app)

    # -- rows that harm their worker -----------------------------------------------------------------

    def _play_harmful(self, rows: list[Row]) -> None:
        """First every worker comes to its end; then another one takes what is delivered again."""
        lost = [row for row in rows if row.scene == "lost"]
        alone = [row for row in rows if row.scene != "lost" or self.pool == "solo"]
        together = [row for row in lost if row not in alone]
        with ThreadPoolExecutor() as threads:
            jobs = [threads.submit(self._play_alone, row) for row in alone]
            jobs += [threads.submit(self._play_lost, together)] if together else []
            for job in jobs:
                job.result()
        self._deliver_again()
        with self._worker("lost", ",".join([LOST_QUEUE, *(f"q-{row.name}" for row in alone)])):
            self._wait_for(rows)

    def _play_lost(self, rows: list[Row]) -> None:
        with self._worker("lost", LOST_QUEUE):
            for row in rows:
                self._launch(row, "lost", LOST_QUEUE)
            wait_until(lambda: all(self._runs(row) for row in rows), what="the first run")
            ending = [row for row in rows if row.expected(self.pool, celery.VERSION) != HELD]
            self._wait_for(ending)

    def _play_alone(self, row: Row) -> None:
        with self._worker("lost", f"q-{row.name}") as worker:
            self._launch(row, "lost", f"q-{row.name}")
            wait_until(lambda: self._runs(row), what="the first run")
            if row.scene == "SIGKILL" and self.pool != "solo" and not row.task.endswith(".late"):
                wait_until(lambda: not self._is_unacknowledged(row), what="the acknowledgement")
            if row.scene == "SIGQUIT" and self.pool == "prefork":  # or the worker does not know that it runs
                wait_until(lambda: self._is_active(row, worker.hostname), what="the worker's acceptance")
            if row.scene != "lost":
                os.kill(int(self.redis.get(f"outcomes:pid:{worker.hostname}")), signal.Signals[row.scene])
            deadline = time.monotonic() + END_SECONDS
            while worker.poll() is None and time.monotonic() < deadline:
                time.sleep(0.05)

    def _deliver_again(self) -> None:
        """What the visibility timeout does: gevent's workers never look for it, the others after a while."""
        options = {"visibility_timeout": 0}
        with self.apps["lost"].connection_for_write(transport_options=options) as connection:

            def restore() -> bool:  # it does nothing where somebody else is at it
                connection.default_channel.qos.restore_visible(num=1000, interval=1)
                return not connection.default_channel.client.hlen("unacked")

            wait_until(restore, what="the messages' return")

    @contextmanager
    def _worker(self, broker: str, queues: str) -> Iterator[object]:
        hostname = f"{uuid4().hex[:8]}@here"
        options = ("-Q", queues, "-c", "4", "-n", hostname, *QUICK)
        environment = {"app": "proj_outcomes", "BATCHES_TEST_BROKER": self.brokers[broker]}
        with running_worker(self.url, self.pool, *options, **environment) as worker:
            worker.hostname = hostname
            yield worker

    # -- what is done to a row -----------------------------------------------------------------------

    def _launch(self, row: Row, broker: str, queue: str) -> None:
        app = self.apps[broker]
        batch = self.batches[row.name] = Batch(row.name, app=app)
        options = {**row.options, "queue": f"{PARKED}-{row.name}" if row.act in MEDDLING else queue}
        (result,) = batch.add(app.signature(row.task, row.args, **options))
        self.ids[row.name] = result.id

    def _revoke(self, row: Row, queue: str) -> None:
        """Let the worker know of it before it gets the message."""
        revoke = self.apps["shared"].control.revoke
        wait_until(lambda: revoke(self.ids[row.name], reply=True, limit=1, timeout=2), what="the revoke")
        self._meddle(row, queue, lambda message: None)

    def _revoke_running(self, row: Row, queue: str, **options: object) -> None:
        wait_until(lambda: self._runs(row), what="the first run")
        self.apps["shared"].control.revoke(self.ids[row.name], **options)

    def _terminate(self, row: Row, queue: str) -> None:
        self._revoke_running(row, queue, terminate=True)

    def _twice(self, row: Row, queue: str) -> None:
        self._meddle(row, queue, lambda message: None, copies=2)

    def _other_content_type(self, row: Row, queue: str) -> None:
        self._meddle(row, queue, lambda message: message.update({"content-type": "application/x-yaml"}))

    def _no_task_name(self, row: Row, queue: str) -> None:
        self._meddle(row, queue, lambda message: message["headers"].pop("task"))

    def _bad_eta(self, row: Row, queue: str) -> None:
        self._meddle(row, queue, lambda message: message["headers"].update(eta="soon"))

    def _garbled(self, row: Row, queue: str) -> None:
        body = base64.b64encode(b'{"not": json').decode()
        self._meddle(row, queue, lambda message: message.update(body=body))

    def _meddle(self, row: Row, queue: str, change: Callable[[dict], object], copies: int = 1) -> None:
        """Take the row's message from where it is parked, and put it in the queue, changed or twice."""
        message = json.loads(self.redis.rpop(f"{PARKED}-{row.name}"))
        change(message)
        for _ in range(copies):
            message["properties"]["delivery_tag"] = str(uuid4())
            self.redis.lpush(queue, json.dumps(message))

    # -- what is seen --------------------------------------------------------------------------------

    def _wait_for(self, rows: list[Row]) -> None:
        deadline = time.monotonic() + PATIENCE_SECONDS
        while time.monotonic() < deadline and not all(self._is_as_expected(row) for row in rows):
            time.sleep(0.1)

    def _is_as_expected(self, row: Row) -> bool:
        expect = row.expected(self.pool, celery.VERSION)
        assert isinstance(expect, Expect)
        status = self.batches[row.name].status()
        return (self._state_of(status), self._runs(row)) == (expect.state, expect.runs)

    def _read_outcome(self, row: Row) -> Seen:
        batch = self.batches[row.name]
        status = batch.status()
        return Seen(
            state=self._state_of(status),
            tokens=self.ear.listen().get(batch.bid, ""),
            runs=self._runs(row),
            error=status.failure_info[0].error_class if status.failure_info else "",
            counters={name: getattr(status, name) for name in COUNTERS},
            died=status.death_at is not None,
        )

    def _is_unacknowledged(self, row: Row) -> bool:
        with Redis.from_url(self.brokers["lost"], decode_responses=True) as broker:
            return any(self.ids[row.name] in message for message in broker.hvals("unacked"))

    def _is_active(self, row: Row, hostname: str) -> bool:
        answer = self.apps["lost"].control.inspect([hostname], timeout=5).active() or {}
        return any(task["id"] == self.ids[row.name] for task in answer.get(hostname, ()))

    def _runs(self, row: Row) -> int:
        return int(self.redis.get(f"outcomes:runs:{self.ids[row.name]}") or 0)

    def _state_of(self, status: object) -> str:
        for state, there in (
            ("succeeded", status.succeeded),
            ("dead", status.dead),
            ("failing", status.failures),
        ):
            if there:
                return state
        return "waiting"

    def _app(self, broker: str) -> Celery:
        app = Celery("tests", broker=broker, backend=None, set_as_current=False)
        app.conf.batches_backend_url = self.url
        Batches(app)
        return app


def rows_for(rows: tuple[Row, ...], pool: str, line: tuple[int, ...]) -> list[Row]:
    """The rows that can happen in this pool and on this Celery line."""
    return [
        row for row in rows if row.needs <= line[:2] and not isinstance(row.expected(pool, line), NotHere)
    ]


@contextmanager
def stage(url: str, pool: str, rows: list[Row]) -> Iterator[Stage]:
    """Open a stage, and close it."""
    with ExitStack() as closing:
        made = Stage(url, pool, rows)
        closing.callback(made.close)
        yield made
