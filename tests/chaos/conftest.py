"""Every scenario draws from one seed, which is printed and can be given: BATCHES_CHAOS_SEED."""

from __future__ import annotations

import os
import random
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.chaos.own_server import OwnServer, own_server
from tests.chaos.scene import Scene, scene

SEED = "BATCHES_CHAOS_SEED"


def pytest_addoption(parser: pytest.Parser) -> None:
    """How long the soak takes."""
    parser.addoption("--minutes", type=float, default=120.0, help="of the soak")


def pytest_configure(config: pytest.Config) -> None:
    """Draw the seed before other processes are started, so that all of them have it."""
    os.environ.setdefault(SEED, str(secrets.randbelow(10**9)))


def pytest_report_header() -> str:
    """Say it at the top."""
    return f"chaos: seed {os.environ[SEED]}, scale {os.environ.get('BATCHES_CHAOS_SCALE', 'ci')}"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[object]:
    """Tell beside each failure how to see it again."""
    report = yield
    if report.failed:
        name = getattr(item, "originalname", item.name)
        again = f"{SEED}={os.environ[SEED]} tox -e chaos -- -k {name}"
        report.sections.append(("replay", again))
    return report


@pytest.fixture
def draw(request: pytest.FixtureRequest) -> random.Random:
    """The scenario's own dice: the same for a seed, whichever others run."""
    return random.Random(f"{os.environ[SEED]} {request.node.name}")


@pytest.fixture
def start_server(tmp_path: Path) -> Iterator[Callable[..., OwnServer]]:
    """Start servers of this scenario's own."""
    with ExitStack() as stack:
        yield lambda name, *options: stack.enter_context(own_server(tmp_path / name, *options))


@pytest.fixture
def set_scene(tmp_path: Path, draw: random.Random) -> Iterator[Callable[..., Scene]]:
    """Set the scene between a store and a broker."""
    with ExitStack() as stack:
        yield lambda store, broker, **conf: stack.enter_context(scene(tmp_path, store, broker, draw, **conf))
