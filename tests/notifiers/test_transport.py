"""The transport under `post`: time, memory, TLS and broken connections, with hostile servers."""

from __future__ import annotations

import gzip
import socket
import subprocess
import sys
import textwrap
import threading
import time
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.errors import NotificationFailed
from celery_batches_notify.notifiers.http import post
from tests.support import http_server as receivers
from tests.support.http_server import Authority, Behaviour, answer, black_hole, serving, silent

CANARY = "SENTINEL9f3"
HEADERS = {"Content-Type": "text/plain"}

pytestmark = pytest.mark.usefixtures("no_proxy")


@contextmanager
def takes_at_most(seconds: float) -> Iterator[None]:
    start = time.monotonic()
    yield
    assert time.monotonic() - start < seconds


def fail(behaviour: Behaviour, *, timeout: float = 10, path: str = "/", **options: Any) -> NotificationFailed:
    with serving(behaviour) as server, pytest.raises(NotificationFailed) as caught:
        post(server.url + path, b"hello", HEADERS, timeout=timeout, **options)
    return caught.value


# What goes wrong on the way


@pytest.mark.parametrize("behaviour", [receivers.reset, receivers.garbage, receivers.endless_headers])
def test_a_broken_connection_can_be_tried_again(behaviour: Behaviour) -> None:
    failure = fail(behaviour)
    assert not failure.permanent
    assert failure.status_code is None


def test_a_refused_connection_says_so() -> None:
    with silent() as port:
        pass
    with pytest.raises(NotificationFailed, match=rf"^http://127\.0\.0\.1:{port}: connection refused$"):
        post(f"http://127.0.0.1:{port}/{CANARY}", b"", HEADERS)


def test_a_name_that_does_not_resolve_says_so() -> None:
    with pytest.raises(NotificationFailed, match=r"^http://nowhere\.invalid: its name does not resolve$"):
        post(f"http://nowhere.invalid/{CANARY}", b"", HEADERS, timeout=30)


# Time


@pytest.mark.parametrize(
    "behaviour",
    [receivers.hang, receivers.drip_status(), receivers.drip_headers()],
    ids=["hang", "status", "header"],
)
def test_the_total_time_is_bounded_however_slowly_it_answers(behaviour: Behaviour) -> None:
    with takes_at_most(30):
        failure = fail(behaviour, timeout=0.5)
    assert not failure.permanent


def test_a_slow_body_after_200_is_success_within_the_time() -> None:
    with serving(receivers.drip_body(200)) as server, takes_at_most(30):
        said = post(server.url, b"", HEADERS, timeout=3)
    assert said.status_code == 200


def test_a_slow_body_after_500_is_that_500_within_the_time() -> None:
    with takes_at_most(30):
        assert fail(receivers.drip_body(500), timeout=3).status_code == 500


def test_connecting_is_bounded() -> None:
    with black_hole() as port, takes_at_most(30), pytest.raises(NotificationFailed):
        post(f"http://127.0.0.1:{port}/", b"", HEADERS, timeout=0.5)


def test_a_tls_handshake_that_never_ends_is_bounded() -> None:
    with silent() as port, takes_at_most(30), pytest.raises(NotificationFailed):
        post(f"https://127.0.0.1:{port}/", b"", HEADERS, timeout=0.5)


def test_a_resolver_that_hangs_is_bounded_and_nothing_is_sent_later(monkeypatch: pytest.MonkeyPatch) -> None:
    answered, real = threading.Event(), socket.getaddrinfo

    def slow(*args: Any, **kwargs: Any) -> Any:  # no resolver here can be made slow
        answered.wait(60)
        return real(*args, **kwargs)

    with serving() as server:
        monkeypatch.setattr(socket, "getaddrinfo", slow)
        with takes_at_most(30), pytest.raises(NotificationFailed, match="no answer within"):
            post(server.url, b"", HEADERS, timeout=0.5)
        answered.set()
        wait_for_our_threads()
        assert server.received == []


def test_a_host_with_many_dead_addresses_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    with black_hole() as port:
        dead = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))] * 4
        # No name here has so many addresses.
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: dead)
        with takes_at_most(30), pytest.raises(NotificationFailed, match="no answer within"):
            post("http://many.test/", b"", HEADERS, timeout=0.5)
        wait_for_our_threads()


@pytest.mark.parametrize("behaviour", [receivers.hang, receivers.drip_headers(), receivers.drip_body(200)])
def test_no_thread_is_left_behind(behaviour: Behaviour) -> None:
    with serving(behaviour) as server:
        for _ in range(3):
            with suppress(NotificationFailed):
                post(server.url, b"", HEADERS, timeout=0.2)
        wait_for_our_threads()


def wait_for_our_threads(seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while any(thread.name == "batches-notify" for thread in threading.enumerate()):
        assert time.monotonic() < until, "a thread is left behind"
        time.sleep(0.02)


def test_it_keeps_to_its_time_under_gevent() -> None:
    code = """
        from gevent import monkey; monkey.patch_all()
        import sys, time
        from celery_batches_notify.errors import NotificationFailed
        from celery_batches_notify.notifiers.http import post
        assert post(sys.argv[1], b"", {}).status_code == 200
        start = time.monotonic()
        try:
            post(sys.argv[2], b"", {}, timeout=0.5)
        except NotificationFailed as exc:
            assert 0.4 < time.monotonic() - start < 30
            print(exc)
    """
    with serving() as good, serving(receivers.drip_headers()) as slow:
        command = [sys.executable, "-c", textwrap.dedent(code), good.url, slow.url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith(slow.url), done.stderr


# Memory


@pytest.mark.parametrize("status", [200, 302, 500])
@pytest.mark.parametrize("make", [receivers.endless, receivers.gzip_bomb])
def test_a_bomb_of_a_body_takes_little_memory(make: Any, status: int) -> None:
    with serving(make(status, Location="/elsewhere")) as server:
        post_or_fail(server.url)  # once before, so that nothing of what follows is an import
        server.bytes_sent = 0
        tracemalloc.start()
        post_or_fail(server.url)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 3 * 2**20
        assert server.bytes_sent < 32 * 2**20  # what the sockets' buffers took


@pytest.mark.parametrize("status", [200, 500])
@pytest.mark.parametrize(
    "make", [receivers.bad_chunk, receivers.negative_chunk, receivers.endless_chunk_size]
)
def test_chunks_that_cannot_be_read_do_not_hide_the_status(make: Any, status: int) -> None:
    with serving(make(status)) as server:
        assert post_or_fail(server.url) == status


@pytest.mark.parametrize("status", [200, 500])
def test_the_answer_is_the_one_that_follows_interim_ones(status: int) -> None:
    with serving(receivers.interim(102, 103, 100, final=status)) as server:
        assert post_or_fail(server.url) == status


def test_it_keeps_64_kb_of_the_answer() -> None:
    with serving(answer(200, b"x" * 100_000)) as server:
        assert post(server.url, b"", HEADERS).body == b"x" * 65536


def test_it_keeps_64_kb_of_chunks_of_any_size() -> None:
    with serving(receivers.chunks(5_000, 50)) as server:
        assert len(post(server.url, b"", HEADERS).body) == 65536


def test_a_compressed_answer_stays_compressed() -> None:
    packed = gzip.compress(b"hello")
    with serving(answer(200, packed, Content_Encoding="gzip")) as server:
        assert post(server.url, b"", HEADERS).body == packed


def post_or_fail(url: str) -> int | None:
    try:
        return post(url, b"", HEADERS, timeout=30).status_code
    except NotificationFailed as exc:
        return exc.status_code


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_certificate_of_the_given_authority_is_trusted(authority: Authority) -> None:
    with serving(tls=authority.issue("127.0.0.1")) as server:
        assert post(server.url, b"hello", HEADERS, ca_file=authority.file).status_code == 200


def test_a_bundle_of_the_environment_is_trusted(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", authority.file)
    with serving(tls=authority.issue("127.0.0.1")) as server:
        assert post(server.url, b"hello", HEADERS).status_code == 200


def test_an_unknown_authority_is_refused(authority: Authority, tmp_path: Path) -> None:
    other = Authority(tmp_path)
    with serving(tls=authority.issue("127.0.0.1")) as server:
        for ca_file in (None, other.file):
            with pytest.raises(NotificationFailed, match="its TLS certificate is not valid") as caught:
                post(server.url, b"hello", HEADERS, ca_file=ca_file)
            assert not caught.value.permanent
    assert server.received == []


def test_a_certificate_for_another_host_is_refused(authority: Authority) -> None:
    refused = pytest.raises(NotificationFailed, match="its TLS certificate is not valid")
    with serving(tls=authority.issue("elsewhere.test")) as server, refused:
        post(server.url, b"hello", HEADERS, ca_file=authority.file)
    assert server.received == []


def test_a_server_without_tls_is_refused() -> None:
    with serving() as server, pytest.raises(NotificationFailed, match="TLS failed"):
        post(server.url.replace("http:", "https:"), b"hello", HEADERS)
    assert server.received == []


def test_a_missing_ca_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotificationFailed, match="the file that ca_file names does not exist"):
        post("https://127.0.0.1:1/", b"", HEADERS, ca_file=str(tmp_path / "none.pem"))


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_environment_that_is_not_there_is_named(
    no_proxy: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str
) -> None:
    monkeypatch.setenv(name, str(tmp_path / "none.pem"))
    with pytest.raises(NotificationFailed, match=f"the file that {name} names does not exist"):
        post("https://127.0.0.1:1/", b"", HEADERS)
    with serving() as server:  # without TLS nobody needs it
        assert post(server.url, b"", HEADERS).status_code == 200


def test_a_ca_file_without_certificates_is_named(tmp_path: Path) -> None:
    (tmp_path / "none.pem").write_text("nothing")
    with serving() as server, pytest.raises(NotificationFailed, match="TLS failed: "):
        url = server.url.replace("http:", "https:")
        post(url, b"", HEADERS, ca_file=str(tmp_path / "none.pem"))
