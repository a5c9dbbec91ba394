"""One HTTP exchange over requests.

- A session of requests follows redirects, or at least reads their whole body into memory, and prefers
  passwords from `~/.netrc` to the caller's. So this uses a session's adapter only.
- A timeout applies to each read. So the sockets are registered, and the thread that watches the clock cuts
  them.
- A body may be endless or a compressed bomb. So it is read raw, up to a limit.
- Errors and debug logs hold the address. So errors get texts of our own, and the loggers are silenced.
"""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from http.client import CONTINUE, HTTPResponse
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from requests.utils import get_environ_proxies
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import HTTPError, LocationParseError, ReadTimeoutError

from celery_batches_notify.notifiers.deadline import Sockets
from celery_batches_notify.notifiers.quiet_loggers import HTTP_LOGGERS, quiet_loggers

READ_SIZE = 4096

_INTERIM = frozenset(range(100, 200)) - {101}  # a final answer follows them, but not 101
_CA_BUNDLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class AddressRefused(requests.RequestException):
    """The host's address is not public, and `allow_private` is off."""


class NoCaFile(OSError):
    """A file of certificates is missing. The text names the option or variable that points to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """The reason for a missing answer, in words without the address."""

    message: str
    permanent: bool = False


_sockets: ContextVar[Sockets] = ContextVar("celery_batches_notify_sockets")


class _Response(HTTPResponse):
    def _read_status(self) -> tuple[str, int, str]:
        """Read a status line. `HTTPResponse` skips 100 only, so 102 and 103 pass for it here."""
        version, status, reason = super()._read_status()  # type: ignore[misc]
        # safety: interim-answer
        return version, CONTINUE if status in _INTERIM else status, reason


class _Connection(HTTPConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _sockets.get().keep(sock)
        return sock


class _TlsConnection(HTTPSConnection):
    response_class = _Response

    def _new_conn(self) -> socket.socket:
        sock = super()._new_conn()
        _sockets.get().keep(sock)
        return sock


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


_POOLS = {"http": _Pool, "https": _TlsPool}


class WatchedAdapter(HTTPAdapter):
    """An adapter whose sockets the running exchange can cut, except those to a SOCKS proxy."""

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools for direct connections (called by `HTTPAdapter`)."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, proxy: str, **kwargs: Any) -> Any:
        """Make the pools for a proxy's connections (called by `HTTPAdapter`)."""
        manager = super().proxy_manager_for(proxy, **kwargs)
        if not proxy.lower().startswith("socks"):
            manager.pool_classes_by_scheme = _POOLS
        return manager


class Exchange:
    """One POST. `run` may hang; `cut` ends it from another thread.

    Attributes:
        status_code: The answer's status, or None before it arrives.
        headers: The answer's headers.
        received: The first bytes of the answer's body, not decompressed.
        trouble: The reason for a missing answer, after `run` has ended.
    """

    def __init__(
        self,
        url: str,
        body: bytes,
        headers: Mapping[str, str],
        *,
        connect_timeout: float,
        read_timeout: float,
        receive_at_most: int,
        ca_file: str | None = None,
        allow_private: bool = True,
    ) -> None:
        self.status_code: int | None = None
        self.headers: Mapping[str, str] = {}
        self.received = bytearray()
        self.trouble: Trouble | None = None
        self._url, self._body, self._sent_headers = url, body, headers
        self._timeouts = (connect_timeout, read_timeout)
        self._receive_at_most = receive_at_most
        self._ca_file, self._allow_private = ca_file, allow_private
        self._sockets = Sockets()

    def run(self) -> None:
        """Send, and read the answer. Errors of the network and of requests go to `trouble`."""
        _sockets.set(self._sockets)
        try:
            with quiet_loggers(*HTTP_LOGGERS):
                self._exchange()
        except (requests.RequestException, HTTPError, OSError, ValueError) as exc:  # safety: odd-chunk
            self.trouble = _explain(exc)
        finally:
            self._sockets.close()

    def cut(self) -> None:
        """End the exchange: its reads and writes fail at once, and it opens no other socket."""
        self._sockets.cut()

    def _exchange(self) -> None:
        request = requests.Request("POST", self._url, data=self._body, headers=dict(self._sent_headers))
        prepared = request.prepare()
        adapter = self._adapter()
        try:
            answer = adapter.send(
                prepared,
                stream=True,
                timeout=self._timeouts,
                verify=self._find_authorities(),
                # A proxy would look the name up again, which would undo the check of its address.
                proxies=get_environ_proxies(prepared.url or "") if self._allow_private else {},
            )
            try:
                self._sockets.check()  # http.client takes a cut within the headers for their end
                self.headers = dict(answer.headers)
                self.status_code = answer.status_code
                self._receive(answer.raw.stream(READ_SIZE, decode_content=False))
            finally:
                answer.close()
        finally:
            adapter.close()

    def _adapter(self) -> HTTPAdapter:
        if self._allow_private:
            return WatchedAdapter()
        from celery_batches_notify.notifiers.http.public_only import PublicOnlyAdapter  # noqa: PLC0415 -- an extra

        return PublicOnlyAdapter(is_tls=self._is_tls)

    @property
    def _is_tls(self) -> bool:
        return self._url.lower().startswith("https:")

    def _find_authorities(self) -> str | bool:
        # A session would look up the environment's bundles.
        named = {"ca_file": self._ca_file, **{name: os.environ.get(name) for name in _CA_BUNDLES}}
        name, path = next(((name, path) for name, path in named.items() if path), ("", None))
        if path and self._is_tls and not os.path.exists(path):
            raise NoCaFile(name)
        return path or True

    def _receive(self, chunks: Iterator[bytes]) -> None:
        for chunk in chunks:
            self.received += chunk[: self._receive_at_most - len(self.received)]
            if len(self.received) >= self._receive_at_most:
                return


def _explain(exc: BaseException) -> Trouble:
    causes = list(_causes(exc))
    for kinds, message, permanent in _MESSAGES:
        for cause in causes:
            if isinstance(cause, kinds):
                return Trouble(message=message, permanent=permanent)
    if message := next(filter(None, map(_message_of, causes)), ""):
        return Trouble(message=message)
    if isinstance(exc, requests.exceptions.SSLError):  # urllib3 itself checks the name of a pinned address
        return Trouble(message="its TLS certificate is not valid: it is for another name")
    return Trouble(message="the connection broke")


def _message_of(cause: BaseException) -> str | None:
    match cause:
        case NoCaFile():
            return f"not connected, because the file that {cause} names does not exist"
        case ssl.SSLCertVerificationError():
            return f"its TLS certificate is not valid: {cause.verify_message}"
        case ssl.SSLError():
            return f"TLS failed: {cause.reason or 'no reason given'}"
        case OSError() if cause.errno:
            return os.strerror(cause.errno).lower()
    return None


# Causes of errors, the most precise first: a name that does not resolve is also a failed connection.
_MESSAGES: tuple[tuple[tuple[type[BaseException], ...], str, bool], ...] = (
    ((AddressRefused,), "not connected, because allow_private is off and its address is not public", True),
    ((LocationParseError, requests.exceptions.InvalidURL, UnicodeError), "the url cannot be used", True),
    ((socket.gaierror,), "its name does not resolve", False),
    ((requests.exceptions.ProxyError,), "the proxy on the way to it failed", False),
    ((requests.ConnectTimeout,), "could not connect in time", False),
    ((ReadTimeoutError, requests.ReadTimeout, TimeoutError), "did not answer in time", False),
)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and all its causes, because requests and urllib3 wrap errors many times."""
    seen: list[BaseException] = []
    waiting: list[object] = [exc]
    while waiting and len(seen) < 50:
        found = waiting.pop()
        if isinstance(found, BaseException) and found not in seen:
            seen.append(found)
            yield found
            waiting += [*found.args, found.__context__, found.__cause__, getattr(found, "reason", None)]
