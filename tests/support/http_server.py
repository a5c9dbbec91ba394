"""A real HTTP(S) server that behaves as badly as receivers do, and remembers what it was sent."""

from __future__ import annotations

import json
import socket
import ssl
import struct
import threading
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qsl

import pytest
import trustme

GONE_CLIENT = (BrokenPipeError, ConnectionResetError, ConnectionAbortedError, ssl.SSLError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """One request. Names of headers are in lower case."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def form(self) -> dict[str, str]:
        return dict(parse_qsl(self.body.decode(), strict_parsing=True))


class Handler(BaseHTTPRequestHandler):
    """Reads the request whole, then does what the server was told."""

    server: Server
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.take()

    def do_GET(self) -> None:
        self.take()

    def take(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.received.append(Received(method=self.command, path=self.path, headers=headers, body=body))
        self.close_connection = True
        self.server.behaviour(self)

    def send(self, data: bytes) -> None:
        self.wfile.write(data)
        self.wfile.flush()
        self.server.bytes_sent += len(data)

    def start(self, status: int, **headers: object) -> None:
        lines = [f"HTTP/1.1 {status} Whatever"]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.send("\r\n".join([*lines, "", ""]).encode())

    def log_message(self, *args: object) -> None:
        pass


Behaviour = Callable[[Handler], None]


class Server(ThreadingHTTPServer):
    """The server: `received` holds the requests, `connections` counts what was accepted."""

    daemon_threads = False
    block_on_close = True

    def __init__(self, behaviour: Behaviour, tls: ssl.SSLContext | None) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.behaviour = behaviour
        self.tls = tls
        self.received: list[Received] = []
        self.connections = 0
        self.bytes_sent = 0
        self.closing = threading.Event()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.server_port}"

    @property
    def only(self) -> Received:
        (one,) = self.received
        return one

    def get_request(self) -> tuple[socket.socket, Any]:
        sock, address = super().get_request()
        self.connections += 1
        if self.tls:
            sock = self.tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
        return sock, address

    def handle_error(self, request: object, client_address: object) -> None:
        with suppress(*GONE_CLIENT):
            raise  # noqa: PLE0704 -- called while the error is handled


@contextmanager
def serving(behaviour: Behaviour | None = None, *, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Run a server; by default it answers 200. A proxy of the environment is kept out of the way to it."""
    server = Server(behaviour or answer(200), tls)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("NO_PROXY", "127.0.0.1")
            patch.setenv("no_proxy", "127.0.0.1")
            yield server
    finally:
        server.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()


@contextmanager
def black_hole() -> Iterator[int]:
    """A port that lets nobody in: its queue is full, so that connecting takes for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listener, socket.socket() as first:
        first.connect(listener.getsockname())
        fillers = [socket.socket() for _ in range(3)]
        for filler in fillers:
            filler.setblocking(False)
            with suppress(BlockingIOError):
                filler.connect(listener.getsockname())
        try:
            yield listener.getsockname()[1]
        finally:
            for filler in fillers:
                filler.close()


@contextmanager
def silent() -> Iterator[int]:
    """A port that takes connections and never says a word, not even of TLS."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


class Authority:
    """A certificate authority of our own, and a file that trusts it."""

    def __init__(self, folder: Any) -> None:
        self._ca = trustme.CA()
        self.file = str(folder / "ca.pem")
        self._ca.cert_pem.write_to_path(self.file)

    def issue(self, *names: str) -> ssl.SSLContext:
        """A server's TLS with a certificate for these names."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._ca.issue_cert(*names).configure_cert(context)
        return context


def answer(status: int, body: bytes = b"", content_type: str = "text/plain", **headers: object) -> Behaviour:
    def behave(handler: Handler) -> None:
        length = {} if status == 204 else {"Content_Length": len(body), "Content_Type": content_type}
        handler.start(status, **length, **headers)
        if status != 204:
            handler.send(body)

    return behave


def echo(status: int, content_type: str = "text/plain") -> Behaviour:
    """Answer with the request: its path, its headers and its body, as debug pages do."""

    def behave(handler: Handler) -> None:
        sent = handler.server.received[-1]
        which = handler.headers.get("X-Echo", "path")
        parts = {"path": sent.path, "auth": sent.headers.get("authorization", ""), "body": sent.body.decode()}
        text = parts[which].encode()
        handler.start(status, Content_Type=content_type, Content_Length=len(text))
        handler.send(text)

    return behave


def hang(handler: Handler) -> None:
    """Never answer."""
    handler.server.closing.wait()


def reset(handler: Handler) -> None:
    """End the connection with a RST."""
    handler.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    handler.connection.close()


def garbage(handler: Handler) -> None:
    """Speak another protocol."""
    handler.send(b"220 mail.example.com ESMTP\r\n")


def drip(start: bytes, *, seconds: float = 0.1) -> Behaviour:
    """Send this, then a byte at a time, for ever."""

    def behave(handler: Handler) -> None:
        handler.send(start)
        while not handler.server.closing.wait(seconds):
            handler.send(b"x")

    return behave


def drip_status() -> Behaviour:
    return drip(b"HTTP/1.1 20")


def drip_headers() -> Behaviour:
    return drip(b"HTTP/1.1 200 OK\r\nX-Slow: ")


def drip_body(status: int) -> Behaviour:
    return drip(f"HTTP/1.1 {status} Whatever\r\nContent-Length: 1000000\r\n\r\n".encode())


def endless(status: int, **headers: object) -> Behaviour:
    """Send 10 GB, or as much of it as the client takes."""

    def behave(handler: Handler) -> None:
        handler.start(status, Content_Length=10 * 2**30, **headers)
        piece = b"x" * 65536
        while not handler.server.closing.is_set():
            handler.send(piece)

    return behave


def gzip_bomb(status: int, **headers: object) -> Behaviour:
    """Send 64 MB of nothing, as 64 KB of gzip."""
    packer = zlib.compressobj(wbits=31)
    packed = b"".join([*(packer.compress(bytes(2**20)) for _ in range(64)), packer.flush()])
    return answer(status, packed, Content_Encoding="gzip", **headers)


def chunks(size: int, count: int) -> Behaviour:
    """Answer 200 in so many chunks."""

    def behave(handler: Handler) -> None:
        handler.start(200, Transfer_Encoding="chunked")
        for _ in range(count):
            handler.send(b"%x\r\n%s\r\n" % (size, b"x" * size))
        handler.send(b"0\r\n\r\n")

    return behave


def bad_chunk(status: int) -> Behaviour:
    """Promise chunks and send none that can be read."""

    def behave(handler: Handler) -> None:
        handler.start(status, Transfer_Encoding="chunked")
        handler.send(b"zzz\r\nhello\r\n")

    return behave


def negative_chunk(status: int) -> Behaviour:
    """Send a chunk of a size below zero."""

    def behave(handler: Handler) -> None:
        handler.start(status, Transfer_Encoding="chunked")
        handler.send(b"-5\r\nhello\r\n")

    return behave


def interim(*statuses: int, final: int) -> Behaviour:
    """Send interim answers with headers before the final one."""

    def behave(handler: Handler) -> None:
        for status in statuses:
            handler.send(b"HTTP/1.1 %d Wait\r\nLink: </style.css>\r\n\r\n" % status)
        handler.start(final, Content_Length=0)

    return behave


def endless_chunk_size(status: int) -> Behaviour:
    """Send a chunk's length that never ends."""

    def behave(handler: Handler) -> None:
        handler.start(status, Transfer_Encoding="chunked")
        while not handler.server.closing.is_set():
            handler.send(b"0" * 65536)

    return behave


def endless_headers(handler: Handler) -> None:
    """Send headers without end."""
    handler.send(b"HTTP/1.1 200 OK\r\n")
    while not handler.server.closing.is_set():
        handler.send(b"X-More: " + b"x" * 60000 + b"\r\n")
