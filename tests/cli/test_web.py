"""`celery batch web` serves the page, and none that is open to strangers."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
from celery import Celery

from celery_batches_notify import Batch
from celery_batches_notify.cli.web import is_loopback
from celery_batches_notify.testing.server import find_free_port
from tests.support.servers import ROOT, wait_until


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


def test_the_page_is_served_until_it_is_interrupted(app: Celery, installed: Path, server_url: str) -> None:
    batch = Batch("Served", app=app)
    batch.seal()
    port = find_free_port()
    words = ("-A", "tests.projects.proj", "batch", "web", "--port", str(port), "--auth", "ann:secret")
    env = {**os.environ, "PYTHONPATH": f"{installed}:{ROOT}", "BATCHES_TEST_URL": server_url}
    command = [sys.executable, "-m", "celery", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=env, cwd=installed, text=True, **pipes) as process:
        assert process.stdout
        line = process.stdout.readline()
        (url,) = re.findall(r"http://\S+", line)
        wait_until(lambda: status_of(url) == 401, what="the page")
        login = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        login.add_password(None, url, "ann", "secret")
        opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(login))
        with opener.open(url + batch.bid) as answer:
            assert b"Served" in answer.read()
        with opener.open(f"{url}{batch.bid}/live") as stream:  # Ctrl-C ends what is still open, too
            assert stream.readline() == b"event: page\r\n"
            process.send_signal(signal.SIGINT)
            assert stream.read().endswith(b"\r\n\r\n")
        _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (130, "")
