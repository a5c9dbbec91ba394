"""Run workers of an older commit and of today side by side: `python tests/upgrade/mixed.py`, by hand.

Producers of both make batches. Those of the older one end at once. A worker of the older commit keeps the
outcomes of today's batches, whose schema it does not know, until it is upgraded; then these end, too. It
needs the repository's history.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from redis import Redis

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from celery_batches_notify.testing.server import embedded_server  # noqa: E402
from tests.support.acl import url_as  # noqa: E402
from tests.support.servers import running_worker, wait_until  # noqa: E402
from tests.upgrade.make_fixture import BEFORE, extract  # noqa: E402

BATCHES, MEMBERS = 20, 25
PRODUCE = f"""
from celery_batches_notify import Batch
from tests.projects import upgrade_app as tasks
for i in range({BATCHES}):
    batch = Batch("{{name}}").on("success", tasks.told.s("success")).on("finish", tasks.told.s("finish"))
    with batch:
        for _ in range({MEMBERS}):
            tasks.work.delay()
"""
COUNT = """
import json, sys
from celery_batches_notify import Batch
from tests.projects import upgrade_app as tasks
for batch in Batch.all(app=tasks.app):
    s = batch.status()
    print(json.dumps([s.description, s.state, s.total, s.succeeded, sorted(c.state for c in s.callbacks)]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commit", default=BEFORE)
    commit = parser.parse_args().commit
    with tempfile.TemporaryDirectory() as name, embedded_server() as url:
        old = Path(name) / "old"
        old.mkdir()
        extract(commit, old)
        spool = {"BATCHES_TEST_SPOOL": name}
        with old_worker(old, url, **spool), running_worker(url, "prefork", app="upgrade_app", **spool):
            run(old, url, PRODUCE.format(name="old"))
            run(ROOT, url, PRODUCE.format(name="new"))
            wait_until(lambda: is_done(url, "old"), seconds=120, what="the batches of the older producer")
            show(url, "both workers")
        with running_worker(url, "prefork", app="upgrade_app", **spool):
            wait_until(lambda: is_done(url, "old", "new"), seconds=180, what="all batches")
            show(url, "after the upgrade")
        with Redis.from_url(url) as client:
            notes = Counter(note.decode() for note in client.lrange("notes", 0, -1))
    assert notes == {
        f"told {who} {event}": BATCHES for who in ("old", "new") for event in ("success", "finish")
    }
    print("each callback ran once per batch")


@contextmanager
def old_worker(place: Path, url: str, **environment: str) -> Iterator[None]:
    """Run a worker of the older commit."""
    command = [sys.executable, "-m", "celery", "-A", "tests.projects.upgrade_app", "worker", "-c", "2"]
    env = environment_of(place, url) | {"BATCHES_TEST_STORE": url_as(url)} | environment
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "-l", "INFO", "-n", "old@tests"], cwd=place, env=env, stdout=log, stderr=log
        )
        try:
            wait_until(
                lambda: b" ready." in (place / "log").read_bytes(), seconds=60, what="the older worker"
            )
            yield
        finally:
            process.terminate()
            process.wait(60)


def environment_of(place: Path, url: str) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(place), "BATCHES_TEST_URL": url}


def run(place: Path, url: str, code: str) -> str:
    """Run a script with the package of a checkout; return what it prints."""
    command = [sys.executable, "-c", code]
    return subprocess.check_output(command, cwd=place, env=environment_of(place, url), text=True)


def statuses(url: str) -> list[list[object]]:
    return [json.loads(line) for line in run(ROOT, url, COUNT).splitlines()]


def is_done(url: str, *names: str) -> bool:
    found = [rest for name, *rest in statuses(url) if name in names]
    return found == [["success", MEMBERS, MEMBERS, ["delivered"] * 2]] * BATCHES * len(names)


def show(url: str, when: str) -> None:
    for line, count in sorted(Counter(map(json.dumps, statuses(url))).items()):
        print(when, count, line, flush=True)


if __name__ == "__main__":
    main()
