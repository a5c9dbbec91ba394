"""Start everything the demo needs, and remove it again: server, worker, receivers, directory."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any

from celery import Celery
from redis import Redis
from redis.exceptions import RedisError

from celery_batches_notify.demo.app import Run, create_app
from celery_batches_notify.demo.receivers import (
    HOOK_PATH,
    LOCALHOST,
    Catch,
    CaughtHook,
    catch_hooks,
    catch_mail,
)
from celery_batches_notify.errors import BatchesError
from celery_batches_notify.notifiers.signature import new_secret
from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from celery_batches_notify.testing.server import embedded_server

LOG_LINES = 30
CONNECT_SECONDS = 5
WORKER_GRACE_SECONDS = 5
WORKER_MODULE = "celery_batches_notify.demo.worker"

# The variables that set options of Celery's command line.
_CELERY_VARIABLES = {"APP", "BROKER_URL", "RESULT_BACKEND", "LOADER", "CONFIG_MODULE", "WORKDIR"}


class ServerNotUsable(BatchesError):
    """The server given with `--redis` cannot be used; the text says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """The processes and receivers of a running demo."""

    run: Run
    app: Celery
    worker: subprocess.Popen[bytes]
    worker_log: Path
    mail: Catch[EmailMessage]
    hooks: Catch[CaughtHook]

    def read_log_end(self) -> list[str]:
        """Return the last lines of the worker's log."""
        return self.worker_log.read_text("utf-8", "replace").splitlines()[-LOG_LINES:]


def forget_other_settings(environ: MutableMapping[str, str] = os.environ) -> None:
    """Remove variables that would lead the demo to other brokers, backends or proxies."""
    for name in [n for n in environ if n.startswith("CELERY_") or n in _CELERY_VARIABLES]:
        del environ[name]
    environ["no_proxy"] = environ["NO_PROXY"] = "*"


@contextmanager
def set_up(redis_url: str | None, pool: str, concurrency: int) -> Iterator[Environment]:
    """Start everything; stop and remove it at the end, also if this process is killed.

    Raises:
        ServerNotStarted: The embedded server is missing or did not start.
        ServerNotUsable: The server at `redis_url` cannot be used.
        NoMailServer: `aiosmtpd` is not installed.
    """
    prefix = f"batches-demo-{secrets.token_hex(4)}"
    secret = new_secret()
    server = use_server(redis_url, prefix) if redis_url else embedded_server()
    with (
        server as url,
        directory_until_we_end(prefix="batches-demo-") as directory,
        catch_mail() as mail,
        catch_hooks(secret) as hooks,
    ):
        run = Run(
            redis_url=url,
            prefix=prefix,
            directory=str(directory),
            smtp_port=mail.port,
            webhook_url=f"http://{LOCALHOST}:{hooks.port}{HOOK_PATH}",
            webhook_secret=secret,
        )
        log = directory / "worker.log"
        with run_worker(run, pool, concurrency, log) as worker:
            app = create_app(run)
            yield Environment(run=run, app=app, worker=worker, worker_log=log, mail=mail, hooks=hooks)


@contextmanager
def run_worker(run: Run, pool: str, concurrency: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a real Celery worker in a process of its own."""
    command = [sys.executable, "-m", "celery", "-q", "-A", WORKER_MODULE, "worker", "-l", "WARNING"]
    command += ["-P", pool, "-c", str(concurrency), "-n", f"{run.prefix}@%h"]
    command += ["--without-mingle", "--without-gossip"]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    options: dict[str, Any] = {
        "env": {**os.environ, **run.as_environ(), "PYTHONPATH": path, "TMPDIR": run.directory},
        "cwd": run.directory,
        "stderr": subprocess.STDOUT,
        "grace_seconds": WORKER_GRACE_SECONDS,
    }
    with log.open("wb") as output, run_until_we_end(command, stdout=output, **options) as worker:
        yield worker


@contextmanager
def use_server(url: str, prefix: str) -> Iterator[str]:
    """Use a running server; at the end, remove its keys that start with `prefix`.

    Raises:
        ServerNotUsable: It does not answer, or refuses the login.
    """
    try:
        client = Redis.from_url(url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=CONNECT_SECONDS)
        client.ping()
    except (RedisError, ValueError) as exc:
        raise ServerNotUsable(f"--redis: this server cannot be used: {exc}") from None
    try:
        yield url
    finally:
        with suppress(RedisError):  # it has gone, and the keys with it
            for key in client.scan_iter(match=f"{prefix}*", count=1000):
                client.unlink(key)
        client.close()
