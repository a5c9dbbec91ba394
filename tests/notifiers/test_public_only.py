"""`allow_private=False`: only public addresses are connected to, under any name."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.errors import ConfigurationError, NotificationFailed
from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.http import post, public_only
from celery_batches_notify.notifiers.webhook import Webhook
from tests.support.http_server import Authority, serving

HOSTS = [
    "127.0.0.1",
    "127.1",
    "127.0.1",
    "127.255.255.254",
    "2130706433",
    "0x7f000001",
    "0x7f.1",
    "0x7f.0x0.0x0.0x1",
    "017700000001",
    "0177.0.0.1",
    "0",
    "0.0.0.0",
    "localhost",
    "LOCALHOST",
    "localhost.",
    "ip6-localhost",
    "[::1]",
    "[0:0:0:0:0:0:0:1]",
    "[::]",
    "[::ffff:127.0.0.1]",
    "[::ffff:7f00:1]",
    "[0:0:0:0:0:ffff:7f00:0001]",
    "[::127.0.0.1]",
    "[64:ff9b::127.0.0.1]",
    "[64:ff9b:1::7f00:1]",
    "[2002:7f00:1::]",
    "[2001:0:7f00:1::]",
    "[fe80::1]",
    "[fe80::1%25lo]",
    "[fec0::1]",
    "[fd00::1]",
    "[fc00::1]",
    "[ff02::1]",
    "[2001:db8::1]",
    "[100::1]",
    "[5f00::1]",
    "10.0.0.1",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "198.18.0.1",
    "192.0.0.1",
    "192.0.2.1",
    "192.88.99.1",
    "224.0.0.1",
    "240.0.0.1",
    "255.255.255.255",
    "①②⑦.⓪.⓪.①",
    "127。0。0。1",
    "127%2e0%2e0%2e1",
    "ok@127.0.0.1",
    "127.0.0.1:PORT#@example.test",
    "127.0.0.1:PORT?@example.test",
    "example.test@127.0.0.1",
    "example.test:80@127.0.0.1",
    "example.test\\@127.0.0.1",
    "127.0.0.1:PORT\\@example.test",
    "127.0.0.1:PORT .example.test",
    "127.0.0.1\t",
]


class Connections:
    """Records the addresses that this process tries to connect to, and refuses the connections."""

    def __init__(self) -> None:
        self.watching = False
        self.tried: list[Any] = []
        sys.addaudithook(self._hook)  # cannot be taken away again, hence `watching`

    def _hook(self, event: str, args: tuple[Any, ...]) -> None:
        if self.watching and event == "socket.connect":
            self.tried.append(args[1])
            raise ConnectionRefusedError(111, os.strerror(111))

    @contextmanager
    def watch(self) -> Iterator[list[Any]]:
        self.tried.clear()
        self.watching = True
        try:
            yield self.tried
        finally:
            self.watching = False


@pytest.fixture(scope="module")
def connections() -> Connections:
    return Connections()


@pytest.mark.parametrize("scheme", ["http", "https", "HTTP"])
@pytest.mark.parametrize("host", HOSTS)
def test_no_private_address_is_connected_to(connections: Connections, host: str, scheme: str) -> None:
    with serving() as canary, connections.watch() as tried:
        place = (host if "PORT" in host else f"{host}:PORT").replace("PORT", str(canary.server_port))
        with pytest.raises(NotificationFailed) as caught:
            post(f"{scheme}://{place}/", b"", {}, allow_private=False, timeout=20)
        assert tried == []
        assert canary.connections == 0
    assert caught.value.permanent or "resolve" in str(caught.value)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "gopher://127.0.0.1/", "ftp://127.0.0.1/", "//127.0.0.1/", "dict://x/"]
)
def test_other_schemes_are_refused(connections: Connections, url: str) -> None:
    with connections.watch() as tried, pytest.raises(NotificationFailed) as caught:
        post(url, b"", {}, allow_private=False)
    assert caught.value.permanent
    assert tried == []


def test_the_canary_would_have_noticed(connections: Connections) -> None:
    with serving() as canary:
        post(canary.url, b"", {})
        assert canary.connections == 1
        with connections.watch() as tried, pytest.raises(NotificationFailed):
            post(canary.url, b"", {})
        assert tried == [("127.0.0.1", canary.server_port)]


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: str) -> list[str]:
    """Let the resolver answer these addresses, one at a time, in place of a name server."""
    left = list(addresses)

    def resolve(_host: str, port: int | None, *_: object, **__: object) -> list[Any]:
        address = left.pop(0) if len(left) > 1 else left[0]
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        return [(family, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    return left


def test_a_name_that_changes_its_address_is_connected_to_the_checked_one(
    connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resolve(host: str, port: int | None, *_: object, **__: object) -> list[Any]:
        """A public address for the check, and the loopback for every later lookup."""
        asked.append(host)
        public = len([one for one in asked if one == "rebind.test"]) == 1
        address = "93.184.216.34" if public or host == "93.184.216.34" else "127.0.0.1"
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port or 0))]

    asked: list[str] = []
    monkeypatch.setattr(socket, "getaddrinfo", resolve)  # no name server here
    with connections.watch() as tried, pytest.raises(NotificationFailed) as caught:
        post("http://rebind.test/", b"", {}, allow_private=False)
    assert tried == [("93.184.216.34", 80)]
    assert not caught.value.permanent


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1:248:1893:25c8:1946"])
def test_a_public_address_is_let_through(
    connections: Connections, monkeypatch: pytest.MonkeyPatch, address: str
) -> None:
    resolve_to(monkeypatch, address)
    with connections.watch() as tried, pytest.raises(NotificationFailed, match="connection refused"):
        post("https://example.test/", b"", {}, allow_private=False)
    assert [one[0] for one in tried] == [address]


def test_no_proxy_is_used(connections: Connections, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, "93.184.216.34")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:3128")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:3128")
    with connections.watch() as tried, pytest.raises(NotificationFailed):
        post("http://example.test/", b"", {}, allow_private=False)
    assert tried == [("93.184.216.34", 80)]


def test_the_error_says_what_to_change_and_shows_no_path() -> None:
    with pytest.raises(NotificationFailed) as caught:
        post("http://127.0.0.1/secret", b"", {}, allow_private=False)
    assert str(caught.value) == (
        "http://127.0.0.1: not connected, because allow_private is off and its address is not public"
    )


def test_without_the_extra_the_option_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "requests_hardened", None)  # as if it were not installed
    with pytest.raises(ConfigurationError, match=r"pip install 'celery-batches-notify\[ssrf\]'"):
        build_notifier(Webhook, {"url": "https://example.test/", "allow_private": False})


class LoopbackIsPublic(public_only.PublicOnlyAdapter):
    """Takes the loopback for public, in place of a public server with TLS."""

    def __init__(self, *, is_tls: bool) -> None:
        super().__init__(is_tls=is_tls)
        self._allow_loopback = True


@pytest.mark.parametrize("certified", ["hooks.test", "elsewhere.test"])
def test_a_pinned_address_is_still_held_to_its_name(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, certified: str
) -> None:
    authority = Authority(tmp_path)
    monkeypatch.setattr(public_only, "PublicOnlyAdapter", LoopbackIsPublic)
    monkeypatch.setattr(public_only, "is_public", lambda _: True)
    with serving(tls=authority.issue(certified)) as server:
        resolve_to(monkeypatch, "127.0.0.1")
        url = f"https://hooks.test:{server.server_port}/"
        if certified == "hooks.test":
            post(url, b"hello", {}, allow_private=False, ca_file=authority.file)
            assert server.only.headers["host"] == f"hooks.test:{server.server_port}"
        else:
            with pytest.raises(NotificationFailed, match="its TLS certificate is not valid"):
                post(url, b"hello", {}, allow_private=False, ca_file=authority.file)


@pytest.mark.parametrize(
    "address",
    [
        *("127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "100.64.0.1", "224.0.0.1"),
        *("::1", "::", "fe80::1", "fec0::1", "fd00::1", "ff02::1", "::127.0.0.1", "::10.0.0.1"),
    ],
)
def test_these_addresses_are_not_public(address: str) -> None:
    assert not public_only.is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "2001:4860:4860::8888", "1.1.1.1"])
def test_these_addresses_are_public(address: str) -> None:
    assert public_only.is_public(address)
