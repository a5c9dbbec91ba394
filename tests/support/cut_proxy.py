"""A TCP proxy before a server that a test runs, which can be told to misbehave."""

from __future__ import annotations

import random
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Literal
from urllib.parse import urlsplit

Mode = Literal["pass", "refuse", "blackhole", "cut_request", "cut_reply", "cut_mid_reply", "delay"]
CHUNK_BYTES = 64 * 1024
WAITS_SECONDS = 0.02


class CutProxy:
    """Passes bytes on, or does what `misbehave` said. A chunk that arrives is taken for one request or reply.

    Modes:
        pass: Nothing happens to them.
        refuse: Nobody listens, and connections are cut.
        blackhole: Nothing arrives, and connections stay; what was sent arrives once the mode ends.
        cut_request: The connection is cut instead of passing a request on.
        cut_reply: The request arrives, and the connection is cut instead of passing the reply on.
        cut_mid_reply: Half the reply arrives, then the connection is cut.
        delay: A reply waits for so many seconds.
    """

    def __init__(self, host: str, port: int, seed: int = 0) -> None:
        self._target = (host, port)
        self._random = random.Random(seed)
        self._mode: Mode = "pass"
        self._share, self._seconds = 1.0, 0.0
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._closed = False
        self.port = 0
        self.accepted = self.struck = 0
        self._listen()

    def misbehave(self, mode: Mode, *, share: float = 1.0, seconds: float = 0.0) -> None:
        """Change the mode; cuts and delays strike this share of the chunks."""
        before, self._mode, self._share, self._seconds = self._mode, mode, share, seconds
        if mode == "refuse":
            self._listener.close()
            self._accepting.join()  # until then the port is not free
            self.cut_all()
        elif before == "refuse":
            self._listen()

    def behave(self) -> None:
        """Pass everything on again."""
        self.misbehave("pass")

    def cut_all(self) -> None:
        """Cut every connection, now."""
        with self._lock:
            connections, self._connections = self._connections, set()
        for connection in connections:
            _cut(connection)

    def close(self) -> None:
        """End the proxy, and every connection."""
        self._closed = True
        self._listener.close()
        self.cut_all()

    def _listen(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=256)
        self._listener.settimeout(WAITS_SECONDS)  # closing it does not wake an `accept`
        self.port = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, args=(self._listener,), daemon=True)
        self._accepting.start()

    def _accept(self, listener: socket.socket) -> None:
        while listener.fileno() >= 0:
            try:
                near, _ = listener.accept()
                self.accepted += 1
            except TimeoutError:
                continue
            except OSError:
                return
            try:
                far = socket.create_connection(self._target, timeout=5)
            except OSError:
                _cut(near)
                continue
            for end in (near, far):
                end.settimeout(None)
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._connections |= {near, far}
            for source, sink, replies in ((near, far, False), (far, near, True)):
                threading.Thread(target=self._pump, args=(source, sink, replies), daemon=True).start()

    def _pump(self, source: socket.socket, sink: socket.socket, replies: bool) -> None:
        with suppress(OSError):
            while chunk := source.recv(CHUNK_BYTES):
                while self._mode == "blackhole" and not self._closed:
                    time.sleep(WAITS_SECONDS)
                if not self._pass_on(chunk, sink, replies=replies):
                    break
        with self._lock:
            self._connections -= {source, sink}
        _cut(source)
        _cut(sink)

    def _pass_on(self, chunk: bytes, sink: socket.socket, *, replies: bool) -> bool:
        """Send a chunk; return whether the connection goes on."""
        strikes = {
            "cut_request": not replies,
            "cut_reply": replies,
            "cut_mid_reply": replies,
            "delay": replies,
        }
        mode = self._mode
        if not strikes.get(mode) or self._random.random() >= self._share:
            sink.sendall(chunk)
            return True
        self.struck += 1
        if mode == "delay":
            time.sleep(self._seconds)
            sink.sendall(chunk)
            return True
        if mode == "cut_mid_reply":
            sink.sendall(chunk[: len(chunk) // 2])
        return False


@contextmanager
def cut_proxy(url: str, *, seed: int = 0) -> Iterator[tuple[CutProxy, str]]:
    """Put a proxy before the server of a URL; yield it, and the URL that goes through it."""
    parts = urlsplit(url)
    proxy = CutProxy(parts.hostname or "127.0.0.1", parts.port or 6379, seed)
    try:
        user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
        yield proxy, parts._replace(netloc=f"{user}127.0.0.1:{proxy.port}").geturl()
    finally:
        proxy.close()


def _cut(connection: socket.socket) -> None:
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)  # or no FIN is sent while another thread reads
    connection.close()
