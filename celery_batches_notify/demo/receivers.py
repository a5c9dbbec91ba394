"""A mail server and a webhook receiver on this machine that keep what arrives."""

from __future__ import annotations

import email
import email.policy
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Generic, TypeVar

from celery_batches_notify.errors import BatchesError
from celery_batches_notify.notifiers.signature import InvalidSignature, verify
from celery_batches_notify.testing.server import find_free_port

LOCALHOST = "127.0.0.1"
HOOK_PATH = "/batches"
HOOK_BYTES = 1024 * 1024

T = TypeVar("T")


class NoMailServer(BatchesError):
    """The package `aiosmtpd` is not installed; the extra `demo` brings it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaughtHook:
    """A webhook as it arrived. If its signature is wrong, `content` is None and `fault` says why."""

    headers: Mapping[str, str]
    content: dict[str, Any] | None
    fault: str = ""


@dataclass(slots=True)
class Catch(Generic[T]):
    """Everything that a receiver has caught so far. Any thread may wait for more."""

    port: int
    _caught: list[T] = field(default_factory=list)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    def put(self, value: T) -> None:
        """Keep a value and wake the waiting threads."""
        with self._changed:
            self._caught.append(value)
            self._changed.notify_all()

    def wait_for(self, wanted: Callable[[T], bool], seconds: float) -> T | None:
        """Return the first wanted value, or None if none arrives within so many seconds."""

        def find() -> T | None:
            return next(filter(wanted, self._caught), None)

        with self._changed:
            self._changed.wait_for(lambda: find() is not None, seconds)
            return find()


@contextmanager
def catch_mail() -> Iterator[Catch[EmailMessage]]:
    """Accept every mail on a free port.

    Raises:
        NoMailServer: `aiosmtpd` is not installed.
    """
    try:
        from aiosmtpd.controller import Controller  # noqa: PLC0415 - an extra
    except ImportError:
        raise NoMailServer(
            'there is no mail server to catch mail: pip install "celery-batches-notify[demo]"'
        ) from None
    catch = Catch[EmailMessage](find_free_port())

    class Handler:
        async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
            catch.put(email.message_from_bytes(envelope.content, EmailMessage, policy=email.policy.default))
            return "250 OK"

    controller = Controller(Handler(), hostname=LOCALHOST, port=catch.port)
    controller.start()
    try:
        yield catch
    finally:
        controller.stop()


@contextmanager
def catch_hooks(secret: str) -> Iterator[Catch[CaughtHook]]:
    """Accept every webhook on a free port, and check its signature as a receiver should."""
    catch: Catch[CaughtHook]

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(min(int(self.headers.get("Content-Length", 0)), HOOK_BYTES))
            headers = dict(self.headers.items())
            try:
                catch.put(CaughtHook(headers=headers, content=verify(body, headers, secret)))
                self.send_response(204)
            except InvalidSignature as exc:
                catch.put(CaughtHook(headers=headers, content=None, fault=str(exc)))
                self.send_response(401)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    with ThreadingHTTPServer((LOCALHOST, 0), Handler) as server:
        catch = Catch(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="hooks", daemon=True)
        thread.start()
        try:
            yield catch
        finally:
            server.shutdown()
            thread.join()
