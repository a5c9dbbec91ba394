"""A contender in a process of its own, which makes calls when it is asked to and says what they cost."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from tests.bench.costs import Cost

ROOT = Path(__file__).parents[2]


class Child:
    """A process that runs a module's `main`, which serves; `run` asks it for one way."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.facts: dict[str, Any] = self._read()

    def run(self, way: str, n: int, *, is_empty: bool = False) -> Cost:
        """Let it make so many calls this way, after the queue was emptied; return what each costs."""
        if not is_empty:
            self.ask("empty", 1)
        answer = self.ask(way, n)
        return Cost(answer["cpu"] / n * 1e6, answer["wall"] / n * 1e6)

    def ask(self, way: str, n: int) -> dict[str, Any]:
        """Let it do something, and return its whole answer."""
        self.begin(way, n)
        return self.end()

    def begin(self, way: str, n: int) -> None:
        """Let it begin."""
        print(json.dumps([way, n]), file=self._process.stdin, flush=True)

    def end(self) -> dict[str, Any]:
        """Return its answer when it is done."""
        return self._read()

    def _read(self) -> dict[str, Any]:
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self._process.args} ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextlib.contextmanager
def child(module: str, *args: str, path: str = "", **environment: str) -> Iterator[Child]:
    """Run a module of this folder; `path` is searched before all others."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, [path, str(ROOT)])), **environment}
    command = [sys.executable, "-m", "tests.bench.child", module, *args]
    with subprocess.Popen(
        command, env=env, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            yield Child(process)
        finally:
            process.stdin.close()  # which ends it


def serve(
    ways: Mapping[str, Callable[[int], object]], *, empty: Callable[[], object], facts: Mapping[str, Any]
) -> None:
    """Run the ways that standard input names, until it ends.

    Args:
        ways: What can be asked for; each is given a number of calls, and may return more to answer.
        empty: Empties the queue.
        facts: What the parent is to know.
    """
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what a contender prints is no answer
    print(json.dumps(facts), file=answers, flush=True)
    for line in sys.stdin:
        name, n = json.loads(line)
        cpu, wall = time.process_time(), time.perf_counter()
        more = ways[name](n) if name in ways else empty()
        answer: dict[str, Any] = {"cpu": time.process_time() - cpu, "wall": time.perf_counter() - wall}
        answer |= more if isinstance(more, dict) else {}
        print(json.dumps(answer), file=answers, flush=True)
    os._exit(0)  # threads of a contender may wait for ever


if __name__ == "__main__":
    importlib.import_module(f"tests.bench.{sys.argv[1]}").main(*sys.argv[2:])
