"""The RabbitMQ that the benchmark starts for itself, in a directory and on ports of its own."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from celery_batches_notify.testing.server import find_free_port

BINARIES = "/usr/lib/rabbitmq/bin"
START_SECONDS = 90


@contextmanager
def rabbitmq() -> Iterator[str | None]:
    """Run a RabbitMQ and yield its URL; None if it is not installed here."""
    server = shutil.which("rabbitmq-server", path=os.pathsep.join([BINARIES, *os.get_exec_path()]))
    if server is None:
        yield None
        return
    with directory_until_we_end(prefix="batches-rabbitmq-") as directory:
        env, port = _environment(directory)
        log = directory / "out.log"
        with (
            log.open("wb") as out,
            run_until_we_end([server], env=env, stdout=out, stderr=out) as process,
        ):
            try:
                _wait_until_up(process, Path(server).with_name("rabbitmqctl"), env, log)
                yield f"amqp://guest:guest@127.0.0.1:{port}//"
            finally:
                subprocess.run(["epmd", "-kill"], env=env, capture_output=True, check=False)


def _environment(directory: Path) -> tuple[dict[str, str], int]:
    plugins = directory / "plugins"
    plugins.write_text("[].")
    port, distribution, epmd = (find_free_port() for _ in range(3))
    ours = {
        "HOME": directory,
        "RABBITMQ_NODENAME": f"bench{port}@localhost",
        "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
        "RABBITMQ_NODE_PORT": port,
        "RABBITMQ_DIST_PORT": distribution,
        "ERL_EPMD_PORT": epmd,
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "RABBITMQ_MNESIA_BASE": directory / "data",
        "RABBITMQ_LOG_BASE": directory / "log",
        "RABBITMQ_ENABLED_PLUGINS_FILE": plugins,
    }
    return {**os.environ, **{name: str(value) for name, value in ours.items()}}, port


def _wait_until_up(process: subprocess.Popen[bytes], control: Path, env: dict[str, str], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    command = [str(control), "-q", "await_startup"]
    while subprocess.run(command, env=env, capture_output=True, check=False, timeout=60).returncode:
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"RabbitMQ did not start: {log.read_text(errors='replace')[-2000:]}")
        time.sleep(1)
