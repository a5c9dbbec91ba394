"""Hearing what a store is asked, reading all that is in it, and what this process logs."""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import StringIO
from pathlib import Path

from redis import Redis

from tests.support.servers import wait_until


class Eavesdropper:
    """Hears every command that the store is given."""

    def __init__(self, port: int, password: str | None = None) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._heard: list[bytes] = []
        if password is not None:
            secret = password.encode()
            self._socket.sendall(b"*2\r\n$4\r\nAUTH\r\n$%d\r\n%b\r\n" % (len(secret), secret))
        self._socket.sendall(b"*1\r\n$7\r\nMONITOR\r\n")
        self._thread = threading.Thread(target=self._listen)
        self._thread.start()
        wait_until(lambda: b"".join(self._heard).count(b"+OK") == 1 + (password is not None), what="MONITOR")

    def _listen(self) -> None:
        with suppress(ConnectionResetError):  # Redis may go the short way when we go
            while data := self._socket.recv(65536):
                self._heard.append(data)

    def close(self) -> str:
        """Return what was heard, but the lines that log in."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._socket.close()
        lines = b"".join(self._heard).decode("utf-8", "replace").splitlines()
        return "\n".join(line for line in lines if not re.search(r'\] "(auth|hello)"', line, re.IGNORECASE))


def save(client: Redis) -> str:
    """Return all that is in the store: its dump, in which nothing is packed."""
    client.save()
    path = Path(client.config_get("dir")["dir"]) / "dump.rdb"
    keys = b"\n".join(sorted(client.scan_iter(count=1000)))
    return (keys + path.read_bytes()).decode("latin-1")


@contextmanager
def listening() -> Iterator[StringIO]:
    """Write down what this process logs."""
    heard, root = StringIO(), logging.getLogger()
    handler, level = logging.StreamHandler(heard), root.level
    handler.addFilter(lambda record: not record.name.startswith("mail."))  # the receiving server's own
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    try:
        yield heard
    finally:
        root.removeHandler(handler)
        root.setLevel(level)
