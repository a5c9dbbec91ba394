"""Every block of Python in the README and the documentation runs, or at least compiles."""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from datetime import timedelta
from importlib.metadata import entry_points
from pathlib import Path
from textwrap import indent
from types import ModuleType
from typing import Any
from uuid import uuid4

import pytest
from celery import Celery, _state, chain, chord, group
from celery.contrib.testing.worker import start_worker
from celery.signals import worker_process_init
from redis import Redis

import celery_batches_notify
from celery_batches_notify import Batch, Batches
from celery_batches_notify.settings import Settings, find_unknown_settings
from celery_batches_notify.store.client import connect
from tests.docs.pages import ROOT, Block, all_pages, find_blocks, names_read
from tests.support.servers import wait_until

# Tests of their own run what is on these.
ELSEWHERE = {
    "how-to/chat.md",
    "how-to/email.md",
    "how-to/webhooks.md",
    "how-to/your-own-notifier.md",
    "tutorial/first-batch.md",
}
# Blocks that need more than a name space, known by a piece of their text; each has a test below.
WITH_A_TEST_OF_THEIR_OWN = (
    "# tasks.py",
    "from tasks import",
    "# proj/",
    "# web.py",
    "# conftest.py",
    "# test_imports.py",
    "import unittest",
    "(batches_sandbox",
    "from flask import",
    "from fastapi import",
    "get_asgi_application",
    "batch.share(",
    "channels.listen()",
    "os.environ[",
)
TASKS = ("audit", "clean_up", "download", "import_row", "publish_report", "resize")
LOCALHOST = ("redis://localhost:6379/0", "redis://localhost:6379/1")

every_block = [block for page in all_pages() for block in find_blocks(page)]
run_here = [
    block
    for block in every_block
    if block.page not in ELSEWHERE and not any(text in block.code for text in WITH_A_TEST_OF_THEIR_OWN)
]


def do_nothing(*_: object, **__: object) -> None:
    """Do the work of every task on the pages."""


def close_app(app: Celery) -> None:
    """Close an app of the pages and its store."""
    app.close()
    store = app._batches_extension.engine.store
    if "client" in store.__dict__:
        store.client.close()


def block_with(page: str, text: str, language: str = "python") -> str:
    """Return the one block of a page that holds a text."""
    (found,) = [block for block in find_blocks(page, language) if text in block.code]
    return found.code


@pytest.mark.parametrize("block", every_block, ids=str)
def test_a_block_is_python_and_its_imports_exist(block: Block) -> None:
    compile(block.code, str(block), "exec")
    for line in block.code.splitlines():
        if line.startswith("from celery_batches_notify"):
            exec(line, {})


@pytest.fixture
def app(server_url: str) -> Iterator[Celery]:
    """The app of the pages, as the current app."""
    before = _state._tls.current_app, _state.default_app, set(_state._on_app_finalizers)
    app = Celery("proj", broker="memory://")
    app.conf.update(
        task_default_queue=f"q{uuid4().hex}",  # the memory broker lives as long as the process
        broker_transport_options={"polling_interval": 0.01},
        worker_hijack_root_logger=False,
        worker_redirect_stdouts=False,
        result_backend="cache+memory://",
        batches_backend_url=server_url,
        batches_notifications={
            "email": {"to": "ops@example.com", "from": "celery@example.com", "via": "test"},
            "email:on-call": {"to": "on-call@example.com", "via": "test"},
        },
    )
    Batches(app)
    for name in TASKS:
        app.task(do_nothing, name=name, shared=False)
    yield app
    close_app(app)
    _state._tls.current_app, _state.default_app, _state._on_app_finalizers = before


@pytest.fixture
def names(app: Celery, redis: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The names that a reader of the pages has."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.txt").write_text("a\nb\nc\n")
    public = {name: getattr(celery_batches_notify, name) for name in celery_batches_notify.__all__}
    modules = {"asyncio": asyncio, "chain": chain, "chord": chord, "group": group, "os": os, "time": time}
    data = {
        "rows": ["a", "b", "c"],
        "check": lambda row: row,
        "log": logging.getLogger("page"),
        "redis_client": redis,
        "timedelta": timedelta,
    }
    tasks = {name: app.tasks[name] for name in TASKS}
    return {"__name__": "page", "app": app, **public, **modules, **data, **tasks}


@contextmanager
def working(app: Celery) -> Iterator[None]:
    """Run a worker in a thread of this process."""
    level = logging.root.level
    with start_worker(app, pool="solo", perform_ping_check=False, shutdown_timeout=20):
        yield
    logging.root.setLevel(level)


def run_block(block: Block, names: dict[str, Any], server_url: str) -> dict[str, Any]:
    """Run a block as a reader would who has read the page up to it."""
    wanted = names_read(block.code)
    if "batch" in wanted:
        names["batch"] = Batch("Import rows")
        if block.page in (
            "how-to/follow-progress.md",
            "how-to/cancel-and-retry.md",
            "how-to/read-results.md",
            "how-to/repair.md",
        ):
            names["batch"].add(*(names["import_row"].s(row) for row in names["rows"]))
        if any(text in block.code for text in ("deliveries()", "redeliver(", "waits_for")):
            names["batch"].on("success", "email").seal()
    if "bid" in wanted:
        kept_open = Batch("Import rows", keep_open=True)
        kept_open.add(names["import_row"].s("a"))
        if block.page != "how-to/add-in-several-goes.md":
            kept_open.seal()
        names["bid"] = kept_open.bid
    code = block.code
    for url in LOCALHOST:
        code = code.replace(url, server_url)
    receivers = [*worker_process_init.receivers]
    exec(compile(code, str(block), "exec"), names)
    worker_process_init.receivers = receivers  # one traces the process, and another test may send the signal
    return names


@pytest.mark.parametrize("block", run_here, ids=str)
def test_a_block_runs(block: Block, app: Celery, names: dict[str, Any], server_url: str) -> None:
    assert names_read(block.code) <= names.keys() | {"batch", "bid"}, "it uses a name that no reader has"
    waits = any(text in block.code for text in (".join(", ".follow()", ".cancelled"))
    with working(app) if waits else nullcontext():
        run_block(block, names, server_url)
        if watch := names.get("watch"):
            batch = Batch("Import rows")
            batch.add(names["import_row"].s("a"))
            asyncio.run(watch(batch.bid))
    if names["app"] is not app:
        close_app(names["app"])
    assert find_unknown_settings(names["app"]) == []


def test_the_example_of_the_readme_is_a_batch_of_three(
    names: dict[str, Any], server_url: str, redis: Redis
) -> None:
    block = Block("README.md", 0, "python", block_with("README.md", "def start_import"))
    names = run_block(block, names, server_url)
    assert not list(Batch.all()), "an import makes no batch"
    status = Batch.get(names["start_import"](["a", "b", "c"], names["import_row"])).status()
    assert (status.total, status.state, status.tags) == (3, "running", ("customer:42",))
    assert [(c.event, c.target) for c in status.callbacks] == [
        ("complete", "email"),
        ("success", "webhook"),
        ("finish", "publish_report"),
    ]
    close_app(names["app"])


def test_calls_that_a_member_adds_are_counted(app: Celery, names: dict[str, Any], server_url: str) -> None:
    code = block_with("how-to/add-in-several-goes.md", "def import_file")
    run_block(Block("how-to/add-in-several-goes.md", 0, "python", code), names, server_url)
    code = block_with("how-to/nest-batches.md", "def import_customer")
    run_block(Block("how-to/nest-batches.md", 0, "python", code), names, server_url)
    with working(app):
        with Batch("files") as files:
            names["import_file"].delay("x")
        with Batch("customers") as customers:
            names["import_customer"].delay("ann")
        assert [batch.join(timeout=20).total for batch in (files, customers)] == [3, 2]
        assert customers.status().children == 1


def test_a_callback_does_its_work_once(
    names: dict[str, Any], server_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = block_with("how-to/callbacks.md", "nx=True")
    run_block(Block("how-to/callbacks.md", 0, "python", code), names, server_url)
    for _ in range(2):
        names["publish_report"].apply(({"bid": "x"}, 7), task_id="cb_x_success_0")
    assert capsys.readouterr().out == "report for user 7\n"


def test_callbacks_replace_a_chords_body_and_errback(
    app: Celery, names: dict[str, Any], server_url: str
) -> None:
    page = "how-to/move-from-chords.md"
    for text in ("def add_up", "def stop"):
        run_block(Block(page, 0, "python", block_with(page, text)), names, server_url)

    @app.task(name="count", shared=False)
    def count(word: str) -> int:
        return int(word)

    with working(app):
        numbers = Batch("Numbers")
        numbers.map(count, ["1", "2", "three", "4"])
        assert numbers.join(timeout=60).dead == 1
    assert names["add_up"].apply(({"bid": numbers.bid},)).get() == 7, "the failed one hides no result"
    waiting = Batch("Numbers")
    waiting.map(count, ["1"])
    names["stop"].apply(({"bid": waiting.bid},))
    assert waiting.status().cancelled_at


def test_the_options_of_the_store_are_taken(
    names: dict[str, Any], server_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BATCHES_REDIS_PASSWORD", "x")
    code = block_with("how-to/install-and-configure.md", "rediss://")
    run_block(Block("how-to/install-and-configure.md", 0, "python", code), names, server_url)
    connect(Settings.from_app(names["app"])).close()


def test_the_channel_is_heard_in_another_process(
    app: Celery, names: dict[str, Any], server_url: str, redis: Redis
) -> None:
    code = block_with("how-to/follow-progress.md", "channels.listen()").replace(LOCALHOST[1], server_url)
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as listener:
        try:
            wait_until(lambda: redis.pubsub_numpat(), what="the subscription")
            batch = Batch("empty")
            batch.seal()
            assert listener.stdout
            assert listener.stdout.readline() == f"{batch.bid} succeeded\n"
        finally:
            listener.kill()


# -- the page on tests ----------------------------------------------------------------------------

TASKS_OF_PROJ = """
from celery import Celery
from celery_batches_notify import Batches

app = Celery("proj", broker="memory://")
app.conf.update(
    batches_backend_url="redis://nowhere.invalid/0",
    batches_notifications={"email": {"to": "ops@example.com", "via": "test"}},
)
Batches(app)

@app.task
def import_row(row):
    if " " in row:
        raise ValueError(row)
"""


def run_python(directory: Path, *arguments: str, **environment: str) -> str:
    path = os.pathsep.join([str(directory), str(Path(celery_batches_notify.__file__).parents[1])])
    env = {**os.environ, "PYTHONPATH": path, **environment}
    command = [sys.executable, *arguments]
    done = subprocess.run(
        command, cwd=directory, env=env, capture_output=True, text=True, check=False, timeout=100
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def write_project(directory: Path, files: dict[str, str]) -> None:
    (directory / "proj").mkdir()
    (directory / "proj" / "__init__.py").touch()
    for name, code in files.items():
        (directory / name).write_text(code)


def test_the_tests_of_the_page_on_tests_pass(tmp_path: Path) -> None:
    page = "how-to/test-your-code.md"
    files = {
        name: block_with(page, f"# {name}") for name in ("conftest.py", "test_imports.py", "proj/imports.py")
    }
    files["test_imports.py"] += block_with(page, "def test_an_import_on_a_worker")
    files["unit_tests.py"] = block_with(page, "import unittest")
    write_project(tmp_path, {**files, "proj/tasks.py": TASKS_OF_PROJ})
    installed = {entry.name for entry in entry_points(group="pytest11")}
    plugin = () if "celery_batches_notify" in installed else ("-p", "celery_batches_notify.testing.plugin")
    assert "2 passed" in run_python(tmp_path, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin)
    assert "Ran 1 test" in run_python(tmp_path, "-m", "unittest", "unit_tests")


# -- frameworks -----------------------------------------------------------------------------------

DRIVE_DJANGO = """
import sys, threading, types
import django
from django.db import transaction

django.setup()
from proj.celery import app
tasks = types.ModuleType("proj.tasks")
def import_row(key): ...
tasks.import_row = app.task(import_row, name="proj.import_row")
sys.modules["proj.tasks"] = tasks
from celery_batches_notify import Batch, NotAMember
from proj import imports

made = []

def save_rows():
    return [1, 2]

refused = []

def request():
    with transaction.atomic():
        try:
            with Batch("Import rows"):
                tasks.import_row.delay_on_commit(1)
        except NotAMember as exc:
            refused.append(str(exc))
        made.append(imports.save_and_import(save_rows))
        assert made[0] not in [batch.bid for batch in Batch.all()]

thread = threading.Thread(target=request)
thread.start()
thread.join()
settings = app._batches_extension.engine.settings
print(Batch.get(made[0]).status().total, settings.linger.days, settings.backend_source)
print(refused)
"""
SETTINGS_OF_DJANGO = """
DATABASES = {"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}
USE_TZ = True
SECRET_KEY = "x"
"""


def test_the_project_in_django_makes_its_batch_after_the_transaction(tmp_path: Path, server_url: str) -> None:
    pytest.importorskip("django")
    page = "how-to/django.md"
    files = {f"proj/{name}.py": block_with(page, f"# proj/{name}.py") for name in ("celery", "imports")}
    files["proj/settings.py"] = block_with(page, "# proj/settings.py") + SETTINGS_OF_DJANGO
    for url in LOCALHOST:
        files = {name: code.replace(url, server_url) for name, code in files.items()}
    write_project(tmp_path, files)
    told = run_python(tmp_path, "-c", DRIVE_DJANGO, DJANGO_SETTINGS_MODULE="proj.settings")
    assert told.startswith("2 7 batches_backend_url\n")
    assert "proj.import_row.delay_on_commit() in a `with batch:` block" in told


def test_the_factory_in_flask_makes_an_app_with_batches(
    names: dict[str, Any], server_url: str, redis: Redis
) -> None:
    pytest.importorskip("flask")
    code = block_with("how-to/flask.md", "from flask import")
    run_block(Block("how-to/flask.md", 0, "python", code), names, server_url)
    web = names["create_web"]()
    app = web.extensions["celery"]

    @app.task(name="name_of_the_web_app", shared=False)
    def name_of_the_web_app() -> str:
        from flask import current_app

        return current_app.name

    assert name_of_the_web_app() == web.name
    assert web.test_client().get("/batches/").status_code == 200
    batch = Batch("Import rows")
    assert batch.map(name_of_the_web_app, []) == 0
    close_app(app)


EXCERPTS = [
    block
    for block in every_block
    if block.page in ("how-to/django.md", "how-to/fastapi.md", "how-to/flask.md")
    and block.code.startswith(("# web.py", "# proj/admin", "# proj/batches", "# proj/models", "# proj/urls"))
]


@pytest.mark.parametrize("block", EXCERPTS, ids=str)
def test_an_excerpt_is_in_the_project_that_its_test_runs(block: Block) -> None:
    framework = Path(block.page).stem
    comment, _, code = block.code.partition("\n")
    name = comment.removeprefix("# ").replace("proj/", "shop/")
    source = (ROOT / "examples" / framework / name).read_text("utf-8")
    assert any(indent(code, margin) in source for margin in ("", " " * 4))


def load_with_project(code: str, app: Celery, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Make a module of a block that imports its tasks from `proj.tasks`."""
    tasks = ModuleType("proj.tasks")
    tasks.app, tasks.import_row = app, app.tasks["import_row"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "proj", ModuleType("proj"))
    monkeypatch.setitem(sys.modules, "proj.tasks", tasks)
    spec = importlib.util.spec_from_loader("page", loader=None)
    assert spec
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "page", module)
    exec(code, module.__dict__)
    return module


def test_the_endpoints_in_fastapi_start_a_batch_and_stream_its_progress(
    app: Celery, names: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("fastapi")
    testclient: Any = pytest.importorskip("fastapi.testclient")
    start = load_with_project(
        block_with("how-to/fastapi.md", "from fastapi import FastAPI"), app, monkeypatch
    )
    follow = load_with_project(
        block_with("how-to/follow-progress.md", "from fastapi import"), app, monkeypatch
    )
    with (
        working(app),
        testclient.TestClient(start.web) as starting,
        testclient.TestClient(follow.web) as reading,
    ):
        bid = starting.post("/imports", json=["a", "b"]).json()["bid"]
        told = reading.get(f"/imports/{bid}/events").text
        assert starting.get(f"/batches/{bid}.json").json()["total"] == 2
        assert reading.get("/imports/0123456789/events").status_code == 404
    assert told.startswith('data: {"share": ')
    assert told.endswith('data: {"share": 1.0, "state": "success"}\n\n')
