"""Real workers, each with all its processes in a session of its own, killed and started again as a whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

from celery_batches_notify.testing.server import run_until_we_end
from tests.chaos.journal import JOURNAL, Journal
from tests.projects.chaos_proj import CONF
from tests.support.servers import ROOT

QUIETLY = ("--without-mingle", "--without-gossip", "--without-heartbeat")


def search_path() -> str:
    """Where the processes of a scenario find the package and the modules of the tests."""
    return os.pathsep.join([os.environ.get("PYTHONPATH", ""), str(ROOT)]).strip(os.pathsep)


class Worker:
    """One worker: the same name and place however often it is started."""

    def __init__(
        self, name: str, pool: str, concurrency: int, log: Path, environment: Mapping[str, str]
    ) -> None:
        self.name = name
        self.log = log
        self._command = [
            sys.executable,
            "-m",
            "celery",
            "-A",
            "tests.projects.chaos_proj",
            "worker",
            "-P",
            pool,
        ]
        self._command += ["-c", str(concurrency), "-n", f"{name}@chaos", "-l", "INFO", *QUIETLY]
        self._environment = environment
        self._running = ExitStack()
        self.process: subprocess.Popen[bytes] | None = None
        self.starts = 0

    def start(self, **environment: str) -> None:
        """Start it."""
        self.starts += 1
        # A failpoint's draws differ from one start to the next, or each could die at its first step.
        own = {k: v.replace("{start}", str(self.starts)) for k, v in self._environment.items()}
        env = {**os.environ, **own, "PYTHONPATH": search_path(), **environment}
        with self.log.open("ab") as log:
            running = run_until_we_end(self._command, env=env, stdout=log, stderr=log, cwd=self.log.parent)
            self.process = self._running.enter_context(running)

    def kill(self) -> None:
        """Kill all its processes at once, as `kill -9` or a lost machine does."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self._running.close()
            self.process = None

    def freeze(self) -> None:
        """Stop all its processes where they are."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Let them go on."""
        if self.process is not None:
            os.killpg(self.process.pid, signal.SIGCONT)

    @property
    def has_ended(self) -> bool:
        """Whether its main process went by itself."""
        return self.process is not None and self.process.poll() is not None


class Fleet:
    """The workers of one scenario."""

    def __init__(self, directory: Path, conf: Mapping[str, Any], journal: Journal) -> None:
        self._directory = directory
        self.environment = {CONF: json.dumps(conf), JOURNAL: str(journal.path)}
        self.workers: list[Worker] = []

    def add(self, pool: str = "prefork", *, concurrency: int = 2, **environment: str) -> Worker:
        """Start one more worker."""
        name = f"w{len(self.workers)}"
        environment = {**self.environment, **environment}
        worker = Worker(name, pool, concurrency, self._directory / f"{name}.log", environment)
        worker.start()
        self.workers.append(worker)
        return worker

    @property
    def deaths(self) -> int:
        """How often one of them ended."""
        return sum(worker.starts - 1 + worker.has_ended for worker in self.workers)

    def revive(self) -> bool:
        """Start those again that ended by themselves; return whether there was one."""
        ended = [worker for worker in self.workers if worker.has_ended]
        for worker in ended:
            worker.kill()
            worker.start()
        return bool(ended)

    def close(self) -> None:
        """Kill them all."""
        for worker in self.workers:
            worker.kill()
