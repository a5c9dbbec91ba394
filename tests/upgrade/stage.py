"""Makes batches in every state with the package that is installed, and writes all keys into a file.

It runs in a checkout of an older commit: see `make_fixture.py`.
"""

from __future__ import annotations

import json
import os
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from celery import chord
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.membership import Membership, Outcome, State
from celery_batches_notify.testing.server import embedded_server, find_free_port
from tests.support.servers import kill, running_worker, wait_until

SPOOL = Path.cwd() / "spool"
NOTIFICATIONS = {
    "email": {"to": "ops@example.com", "from": "celery@example.com", "via": "smtp"},
    "webhook": {},
}


def stage(url: str) -> None:
    """Make all batches. Members for later wait in the queue `celery`, which no worker reads here."""
    from tests.projects import upgrade_app as tasks

    client = Redis.from_url(url)

    def told(batch: Batch, *events: str, **options: Any) -> Batch:
        for event in events:
            batch.on(event, tasks.told.s(event), **options)
        return batch

    for make in (_make_waiting, _make_running, _make_ended, _make_spooled, _make_abandoned):
        make(tasks, told, url, client)


def _make_waiting(tasks: Any, told: Callable[..., Batch], *_: object) -> None:
    """Batches whose members wait in the queue."""
    with told(Batch("open", keep_open=True), "complete", "success"):
        tasks.work.delay()
        tasks.work.delay()
    sealed = told(Batch("sealed", tags=["customer:42"]), "death", "complete", "finish", "success")
    with sealed.on("complete", "email").on("complete", "webhook"):
        tasks.work.delay()
        tasks.work.delay()
        tasks.fail.delay()
    parent = told(Batch("parent"), "complete", "finish", "success")
    with parent:
        tasks.work.delay()
        with told(Batch("child", parent=parent), "success"):
            tasks.work.delay()
    with told(Batch("chain"), "success"):
        (tasks.work.si() | tasks.work.si() | tasks.work.si()).delay()
    with told(Batch("chord"), "success"):
        chord([tasks.work.si(), tasks.work.si()])(tasks.work.s())
    with (cancelled := told(Batch("cancelled"), "cancel", "finish")):
        tasks.work.delay()
    cancelled.cancel()
    with told(Batch("kept calls", keep_calls=True), "success"):
        tasks.work.delay()
        tasks.work.delay()
    with told(Batch("named"), "success"):
        tasks.work.apply_async(task_id="invoice-7")
    with told(Batch("late"), "deadline", after=0.1):
        tasks.work.delay()


def _make_running(tasks: Any, told: Callable[..., Batch], url: str, client: Redis) -> None:
    """A batch with a member on a worker that dies."""
    with told(Batch("running"), "finish", "success"):
        tasks.hold.apply_async(queue="hold")
        tasks.work.delay()
    client.set("holding", 1)
    with running_worker(url, "prefork", "-Q", "hold", "-c", "1", app="upgrade_app") as worker:
        wait_until(lambda: b"held" in client.lrange("notes", 0, -1), what="the task")
        wait_until(lambda: list(client.scan_iter("batches:worker:*")), what="its record")
        kill(worker)
    client.delete("holding")


def _make_ended(tasks: Any, told: Callable[..., Batch], url: str, client: Redis) -> None:
    """Batches whose members ended before the upgrade, each with callbacks in another state."""
    now: dict[str, Any] = {"queue": "now"}
    with (dead := told(Batch("dead", callback_queue="now"), "death", "finish", "success")):
        tasks.work.apply_async(**now)
        tasks.fail.apply_async(("healed",), **now)
        tasks.fail.apply_async(("healed",), **now)
    with (succeeded := told(Batch("succeeded", callback_queue="now"), "complete", "success")):
        tasks.work.apply_async(**now)
    with (published := told(Batch("published"), "success").on("success", "email").on("success", "webhook")):
        tasks.work.apply_async(**now)
    with (retrying := told(Batch("retrying"), "complete", "success")):
        tasks.again.apply_async(**now)
    with (failed := Batch("mail failed", callback_queue="now").on("success", "email")):
        tasks.work.apply_async(**now)
    with running_worker(url, "prefork", "-Q", "now", app="upgrade_app") as worker:
        states = lambda batch: {each.state for each in batch.status().callbacks}  # noqa: E731
        wait_until(lambda: states(dead) == {"waiting", "delivered"}, what="the callbacks of the dead")
        wait_until(lambda: states(succeeded) == {"delivered"}, what="the callbacks of the success")
        wait_until(lambda: states(published) == {"published"}, what="published callbacks")
        wait_until(lambda: retrying.status().failures == 1, what="a retry")
        wait_until(
            lambda: states(failed) == {"due"} and failed.status().callbacks[0].attempts,
            what="a mail that failed",
        )
        kill(worker)
    with (due := told(Batch("due"), "success").on("success", "email")):
        member = tasks.work.apply_async(queue="nobody")
    membership = Membership(bid=due.bid, index=0, task_id=member.id)
    due._engine.store.record_outcome(membership, Outcome(state=State.SUCCEEDED))  # and then it died


def _make_spooled(tasks: Any, told: Callable[..., Batch], url: str, _: object) -> None:
    """A batch whose members' outcomes lie on a disk, because the store was away."""
    with told(Batch("spooled"), "finish", "success"):
        tasks.work.apply_async(queue="spooled")
        (tasks.work.si().set(queue="spooled") | tasks.work.si()).delay()
    away = f"redis://127.0.0.1:{find_free_port()}/0"
    with running_worker(
        url, "prefork", "-Q", "spooled", app="upgrade_app", BATCHES_TEST_STORE=away
    ) as worker:
        wait_until(lambda: "".join(read_spool().values()).count('"v":') == 2, what="spooled outcomes")
        kill(worker)


def _make_abandoned(tasks: Any, told: Callable[..., Batch], *_: object) -> None:
    """A batch whose block never ends, because this process does."""
    told(Batch("abandoned", autoflush=1), "finish", "success").__enter__()
    tasks.work.delay()


def read_spool() -> dict[str, str]:
    """Return the files of the spool that hold something, which another process may rename meanwhile."""
    files = {}
    for path in SPOOL.rglob("*"):
        with suppress(FileNotFoundError):
            if path.is_file() and (text := path.read_text()):
                files[path.name] = text
    return files


def dump(client: Redis) -> dict[str, Any]:
    """Return all keys: for each the command that writes it, with its arguments, and its life in ms."""
    keys = {}
    for key in sorted(client.scan_iter("*")):
        kind, text = client.type(key).decode(), key.decode("latin-1")
        parts: list[bytes] = []
        if kind == "string":
            command, parts = "SET", [client.get(key)]
        elif kind == "hash":
            command, parts = "HSET", [each for pair in client.hgetall(key).items() for each in pair]
        elif kind == "zset":
            command = "ZADD"
            parts = [
                each
                for name, score in client.zrange(key, 0, -1, withscores=True)
                for each in (repr(score).encode(), name)
            ]
        elif kind == "list":
            command, parts = "RPUSH", client.lrange(key, 0, -1)
        else:
            command, parts = "SADD", sorted(client.smembers(key))
        keys[text] = {
            "command": command,
            "parts": [p.decode("latin-1") for p in parts],
            "pttl": client.pttl(key),
        }
    return keys


def main() -> None:
    commit, target = sys.argv[1:]
    SPOOL.mkdir()
    with embedded_server() as url:
        os.environ |= {"BATCHES_TEST_URL": url, "BATCHES_TEST_SPOOL": str(SPOOL)}
        nowhere = {"address": "127.0.0.1", "port": find_free_port(), "authentication": None}
        NOTIFICATIONS["email"]["via_options"] = nowhere
        NOTIFICATIONS["webhook"]["url"] = "http://127.0.0.1:9/"
        os.environ["BATCHES_TEST_ABANDON_AFTER"] = "1"
        os.environ["BATCHES_TEST_NOTIFICATIONS"] = json.dumps(NOTIFICATIONS)
        stage(url)
        found = {"commit": commit, "spool": read_spool(), "keys": dump(Redis.from_url(url))}
        text = json.dumps(found, indent=1)
        for place in (sysconfig.get_path("purelib"), str(Path.cwd())):  # in tracebacks
            text = text.replace(place, "/app")
        Path(target).write_text(text + "\n")
        os._exit(0)  # like a process that dies: the open block does not end


if __name__ == "__main__":
    main()
