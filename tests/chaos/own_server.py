"""A Valkey or Redis of a scenario's own, which can be killed, started again, stopped and cut short."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from redis import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from celery_batches_notify.testing.server import find_binary, find_free_port, run_until_we_end
from tests.support.servers import wait_until

AOF = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
FORGETFUL = ("--appendonly", "no", "--save", "")


class OwnServer:
    """One server on one port, whose directory outlives its processes."""

    def __init__(self, directory: Path, *options: str, binary: str | None = None) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.port = find_free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.client = Redis.from_url(self.url, socket_timeout=20, retry=None)
        self._options = options or AOF
        self._binary = binary or find_binary()
        self._running = ExitStack()

    def start(self) -> None:
        """Start it, and wait until it has loaded what it kept."""
        command = [
            self._binary,
            "--bind",
            "127.0.0.1",
            "--port",
            str(self.port),
            "--dir",
            str(self.directory),
        ]
        command += ["--enable-debug-command", "local", *self._options]
        log = (self.directory / "server.log").open("ab")
        with log:
            running = run_until_we_end(command, stdout=log, stderr=log, grace_seconds=2)
            self._process = self._running.enter_context(running)
        wait_until(self._answers, what=f"the server in {self.directory}")

    def kill(self) -> None:
        """Kill it as `kill -9` does."""
        self.client.connection_pool.disconnect()
        os.killpg(self._process.pid, signal.SIGKILL)
        self._running.close()

    def close(self) -> None:
        """End it."""
        self.client.close()
        self._running.close()

    def freeze(self) -> None:
        """Let it take connections and answer nothing."""
        os.killpg(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        os.killpg(self._process.pid, signal.SIGCONT)

    @property
    def append_only_file(self) -> Path:
        """The file that holds the commands since the start."""
        (path,) = (self.directory / "appendonlydir").glob("*.incr.aof")
        return path

    def _answers(self) -> bool:
        assert self._process.poll() is None, (self.directory / "server.log").read_text()[-2000:]
        try:
            return bool(self.client.ping()) and not self.client.info("persistence")["loading"]
        except (RedisConnectionError, RedisError):
            return False


@contextmanager
def own_server(directory: Path, *options: str, binary: str | None = None) -> Iterator[OwnServer]:
    """Run a server of one's own; everything it writes is kept by default."""
    server = OwnServer(directory, *options, binary=binary)
    server.start()
    try:
        yield server
    finally:
        server.close()
