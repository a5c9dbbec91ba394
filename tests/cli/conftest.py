"""The `celery batch` commands as a user runs them, and an app whose broker, store and results they reach."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from celery import Celery
from redis import Redis

from tests.support.apps import open_app
from tests.support.command_line import celery, install
from tests.support.terminal import Commands

UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture
def batch_command(installed: Path, server_url: str) -> Callable[..., subprocess.CompletedProcess[str]]:
    def run(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
        environment = {"BATCHES_TEST_URL": server_url, **environment}
        done = celery(installed, "-A", "tests.projects.proj", "batch", *words, **environment)
        assert not UNSAFE.search(done.stdout + done.stderr)
        return done

    return run


@pytest.fixture
def app(redis: Redis, server_url: str, tmp_path: Path) -> Iterator[Celery]:
    with open_app(server_url, result_backend=f"file://{tmp_path}") as app:
        yield app


@pytest.fixture
def command(app: Celery, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Run `celery batch …` in this process."""
    return Commands(app=app, monkeypatch=monkeypatch)
