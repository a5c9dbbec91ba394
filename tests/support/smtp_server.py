"""Real SMTP servers: one that knows all ways to log in and to refuse, and some that behave badly."""

from __future__ import annotations

import asyncio
import base64
import hmac
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

USER, PASSWORD, TOKEN = "mailer@example.com", "SENTINEL-pässwörd", "SENTINEL-token"
MECHANISMS = ("PLAIN", "LOGIN", "CRAM-MD5", "XOAUTH2")


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A mail as the server got it, and how the client came to hand it over."""

    sender: str
    recipients: list[str]
    content: bytes
    helo: str
    tls: bool
    mechanism: str | None

    @property
    def message(self) -> EmailMessage:
        return message_from_bytes(self.content, policy=default)  # type: ignore[return-value]

    @property
    def header_names(self) -> list[str]:
        """The names of all headers, read from the octets and not by a parser that may be fooled."""
        head = self.content.partition(b"\r\n\r\n")[0].decode("ascii")
        return [line.partition(":")[0] for line in head.split("\r\n") if not line.startswith((" ", "\t"))]


@dataclass
class SmtpServer:
    """What to answer, and what was received. `answers` maps an address, or a command, to replies in turn."""

    offers: tuple[str, ...] = ()
    starttls: ssl.SSLContext | None = None
    implicit_tls: ssl.SSLContext | None = None
    answers: dict[str, list[str]] = field(default_factory=dict)
    drop_after_data: bool = False
    received: list[Received] = field(default_factory=list)
    port: int = 0

    @property
    def only(self) -> Received:
        (one,) = self.received
        return one

    def answer(self, asked: str, otherwise: str) -> str:
        replies = self.answers.get(asked, [])
        return (replies.pop(0) if len(replies) > 1 else replies[0]) if replies else otherwise


class _Handler:
    """What aiosmtpd asks, which also reads every attribute of the object it asks."""

    def __init__(self, server: SmtpServer) -> None:
        self._server = server

    async def handle_MAIL(self, smtp: Any, session: Any, envelope: Any, address: str, _: Any) -> str:  # noqa: N802
        envelope.mail_from = address
        return self._server.answer("MAIL", "250 OK")

    async def handle_RCPT(self, smtp: Any, session: Any, envelope: Any, address: str, _: Any) -> str:  # noqa: N802
        reply = self._server.answer(address, "250 OK")
        if reply.startswith("2"):
            envelope.rcpt_tos.append(address)
        return reply

    async def handle_DATA(self, smtp: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        reply = self._server.answer("DATA", "250 OK")
        if reply.startswith("2"):
            self._server.received.append(
                Received(
                    sender=envelope.mail_from,
                    recipients=list(envelope.rcpt_tos),
                    content=envelope.original_content,
                    helo=session.host_name,
                    tls=session.ssl is not None or self._server.implicit_tls is not None,
                    mechanism=session.auth_data,
                )
            )
        if self._server.drop_after_data:
            smtp.transport.abort()
        return reply


class _Protocol(SMTP):
    """aiosmtpd's server, with the two mechanisms it does not have."""

    async def auth_CRAM__MD5(self, server: Any, args: list[str]) -> AuthResult:  # noqa: N802
        challenge = b"<1896.697170952@postoffice.example.com>"
        answer = await self.challenge_auth(challenge)
        digest = hmac.new(PASSWORD.encode(), challenge, "md5").hexdigest()
        good = answer == f"{USER} {digest}".encode()
        return AuthResult(success=good, handled=False, auth_data="CRAM-MD5")

    async def auth_XOAUTH2(self, server: Any, args: list[str]) -> AuthResult:  # noqa: N802
        if base64.b64decode(args[1]) == f"user={USER}\1auth=Bearer {TOKEN}\1\1".encode():
            return AuthResult(success=True, auth_data="XOAUTH2")
        await self.challenge_auth(b'{"status":"401","schemes":"bearer"}')
        return AuthResult(success=False, handled=False)


def _authenticate(_: Any, __: Any, ___: Any, mechanism: str, given: LoginPassword) -> AuthResult:
    good = given.login == USER.encode() and given.password == PASSWORD.encode()
    return AuthResult(success=good, handled=False, auth_data=mechanism)


@contextmanager
def serving_smtp(**how: Any) -> Iterator[SmtpServer]:
    """Run a server; without options it offers neither TLS nor a login and takes everything."""
    server = SmtpServer(**how)
    loop = asyncio.new_event_loop()

    def protocol() -> _Protocol:
        return _Protocol(
            _Handler(server),
            loop=loop,
            hostname="mx.test",
            tls_context=server.starttls,
            authenticator=_authenticate,
            auth_require_tls=False,
            auth_exclude_mechanism=set(MECHANISMS) - set(server.offers),
        )

    starting = loop.create_server(protocol, "127.0.0.1", 0, ssl=server.implicit_tls)
    listener = loop.run_until_complete(starting)
    server.port = listener.sockets[0].getsockname()[1]
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        asyncio.run_coroutine_threadsafe(_stop(listener), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


async def _stop(listener: asyncio.Server) -> None:
    listener.close()
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
    await asyncio.sleep(0)  # transports close in the loop's next turn


class Peer:
    """The other end of one connection, led by hand."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self._sock = sock
        self._lines = sock.makefile("rb")
        self.closing = closing

    def say(self, text: str) -> None:
        self._sock.sendall(text.encode() + b"\r\n")

    def hear(self) -> str:
        return self._lines.readline().decode().rstrip("\r\n")

    def drip(self, text: str) -> None:
        """Send a few characters a second, for ever: each of them restarts a timeout."""
        while not self.closing.wait(0.05):
            self._sock.sendall(text.encode())

    def close(self) -> None:
        self._lines.close()
        self._sock.close()


@contextmanager
def misbehaving(behave: Callable[[Peer], None]) -> Iterator[int]:
    """A port where this function talks to whoever comes."""
    closing = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):  # the listener was closed, or the client has gone
                while True:
                    peer = Peer(listener.accept()[0], closing)
                    try:
                        behave(peer)
                    finally:
                        peer.close()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            closing.set()
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()
