"""`celery batch web` serves the page, and none that is open to strangers."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch
from celery_batches_notify.cli.web import is_loopback
from tests.support.servers import ROOT, need
from tests.support.terminal import Commands

Process = subprocess.Popen[str]


def status_of(url: str) -> int:
    """The status of an answer, or 0 if there is none yet."""
    try:
        with urllib.request.urlopen(url) as answer:
            return int(answer.status)
    except HTTPError as exc:
        return exc.code
    except URLError:
        return 0


@pytest.mark.parametrize(
    ("host", "is_ours"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("10.0.0.1", False),
        ("localhost.example.com", False),
        ("", False),
    ],
)
def test_only_loopback_needs_no_password(host: str, is_ours: bool) -> None:
    assert is_loopback(host) is is_ours


@pytest.mark.parametrize("auth", [(), ("--auth", "ann"), ("--auth", ":x"), ("--auth", "ann:")])
def test_an_open_address_without_a_password_is_refused(
    batch_command: Callable[..., subprocess.CompletedProcess[str]], auth: tuple[str, ...]
) -> None:
    done = batch_command("web", "--host", "0.0.0.0", "--port", "0", *auth)
    assert done.returncode == 2
    assert "--auth" in done.stderr


def has_address(host: str) -> bool:
    """Whether this machine can listen there."""
    try:
        socket.create_server((host, 0), family=socket.AF_INET6 if ":" in host else socket.AF_INET).close()
    except OSError:
        return False
    return True


@contextmanager
def serving_page(installed: Path, server_url: str, *options: str) -> Iterator[tuple[Process, str]]:
    """Run `celery batch web` at a free port; yield the process and the URL that it printed."""
    words = ("-A", "tests.projects.proj", "batch", "web", "--port", "0", "--auth", "ann:secret", *options)
    env = {**os.environ, "PYTHONPATH": f"{installed}:{ROOT}", "BATCHES_TEST_URL": server_url}
    command = [sys.executable, "-m", "celery", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, cwd=installed, text=True, **pipes) as process:
        try:
            assert process.stdout
            (url,) = re.findall(r"http://\S+", process.stdout.readline())
            yield process, url
        finally:
            process.kill()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_the_address_that_is_printed_answers_at_once(
    redis: Redis,
    installed: Path,
    server_url: str,
    host: str,
) -> None:
    need(host, has_address(host))
    with serving_page(installed, server_url, "--host", host) as (_, url):
        assert status_of(url) == 401
        assert not url.endswith(":0/")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--port", "{taken}"), "listen at 127.0.0.1:{taken}: address already in use; give another --port"),
        (("--host", "192.0.2.1"), "cannot assign requested address; give another --host"),
        (("--host", "x" * 64), "that is not the name of a host; give another --host"),
    ],
)
def test_an_address_that_cannot_be_used_is_one_sentence_and_exit_code_1(
    command: Commands, options: tuple[str, str], words: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = str(other.getsockname()[1])
        given = [each.format(taken=taken) for each in options]
        ran = command("web", "--auth", "ann:secret", *given)
        told = command("web", "--auth", "ann:secret", *given, "--json").records
    assert (ran.code, ran.stdout, ran.stderr.count("\n")) == (1, "", 1)
    assert words.format(taken=taken) in ran.stderr
    assert told == [{"error": ran.stderr.strip().removeprefix("Error: "), "exit_code": 1, "final": True}]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM)])
def test_the_page_is_served_until_a_signal_ends_it_with_its_streams(
    app: Celery, installed: Path, server_url: str, number: signal.Signals, code: int
) -> None:
    batch = Batch("Served", app=app)
    batch.seal()
    with serving_page(installed, server_url) as (process, url):
        login = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        login.add_password(None, url, "ann", "secret")
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(login))
        with opener.open(url + batch.bid) as answer:
            assert b"Served" in answer.read()
        with opener.open(f"{url}{batch.bid}/live") as stream:
            assert stream.readline() == b"event: page\r\n"
            process.send_signal(number)
            assert stream.read().endswith(b"\r\n\r\n")
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (code, "")
