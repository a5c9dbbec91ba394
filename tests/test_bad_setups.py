"""Set-ups that cannot work, or not for long: each is one sentence that says what to do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batches, ConfigurationError
from celery_batches_notify.extension import warn_about_surroundings
from tests.support.servers import ROOT

STORE = "redis://localhost:1/0"
# A Django setting, what is wrong with it, and the error.
WRONG = [
    ("CELERY_BATCHES_EXPIRES", "soon", "must be a number of seconds or a timedelta, got 'soon'"),
    ("CELERY_BATCHES_FAILURES_KEPT", "100", "must be an integer from 0 to 100,000, got '100'"),
    ("CELERY_BATCHES_KEEP_CALLS", 1, "must be True or False, got 1"),
    ("CELERY_BATCHES_NOTIFICATIONS", ["email"], "must be a mapping whose keys are strings, got list"),
    ("CELERY_BATCHES_NOTIFIERS", "email", "must be a mapping whose keys are strings, got str"),
    ("CELERY_BATCHES_WEB_URL", "ops/batches", "must be the http:// or https:// URL of the status page"),
    ("CELERY_BATCHES_PREFIX", 7, "must be 1 to 100 letters, digits and . : _ -, got 7"),
    ("CELERY_BATCHES_CALLBACK_TASKS", "shop.told", "must be a list of task names, got 'shop.told'"),
    ("CELERY_BATCHES_LOST_MEMBERS", "again", 'must be "dead" or "resend", got \'again\''),
    ("CELERY_BATCHES_SPOOL_DIR", "spool", "must be the absolute path of a directory, got 'spool'"),
    ("CELERY_BATCHES_BACKEND_URL", 6379, "must be a redis://, rediss:// or unix:// URL, or sentinel:// ones"),
    ("CELERY_BATCHES_BACKEND_OPTIONS", "ssl", "must be a mapping whose keys are strings, got str"),
]


@pytest.mark.parametrize(("name", "value", "words"), WRONG, ids=[name for name, *_ in WRONG])
def test_a_django_setting_of_the_wrong_type_is_named_as_django_names_it(
    name: str, value: object, words: str
) -> None:
    app = Celery("shop", broker="memory://", set_as_current=False)
    source = SimpleNamespace(**{"CELERY_BATCHES_BACKEND_URL": STORE, name: value})
    app.config_from_object(source, namespace="CELERY")
    with pytest.raises(ConfigurationError) as caught:
        _ = Batches(app).engine
    assert str(caught.value).startswith(f"{name} {words}")
    assert "\n" not in str(caught.value)


def started(url: str, broker: str, **conf: object) -> None:
    """Let a worker's start-up checks run for an app."""
    app = Celery("shop", broker=broker, set_as_current=False)
    app.conf.update(batches_backend_url=url, **conf)
    warn_about_surroundings(app, Batches(app).engine.store)
    app._batches_extension.reset()


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if "batches_prefix" in record.getMessage()]


def test_a_worker_warns_of_another_app_with_its_prefix(
    server_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    other = server_url.removesuffix("/0") + "/1"
    started(server_url, server_url)
    started(server_url, server_url)
    assert warnings_of(caplog) == []
    started(server_url, other)
    [warning] = warnings_of(caplog)
    assert "give each a batches_prefix of its own" in warning
    assert server_url in warning
    assert other in warning


def test_another_default_queue_is_another_app(
    server_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    started(server_url, server_url)
    started(server_url, server_url, task_default_queue="crm")
    assert "queue crm" in warnings_of(caplog)[0]


def test_apps_with_prefixes_of_their_own_are_no_warning(
    server_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    started(server_url, server_url)
    started(server_url, server_url, task_default_queue="crm", batches_prefix="batches-crm")
    assert warnings_of(caplog) == []


def test_the_warning_holds_no_password(
    server_url: str, redis: Redis, caplog: pytest.LogCaptureFixture
) -> None:
    started(server_url, server_url.replace("redis://", "redis://user:SENTINEL@").replace("/0", "/1"))
    started(server_url, server_url)
    assert len(warnings_of(caplog)) == 1
    assert "SENTINEL" not in caplog.text
    assert b"SENTINEL" not in redis.get("batches:app")


@pytest.mark.parametrize("missing", ["jinja2", "starlette", "sse_starlette"])
def test_the_page_without_its_extra_names_the_install(missing: str) -> None:
    code = f"import sys; sys.modules[{missing!r}] = None; import celery_batches_notify.web"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last == f"ImportError: the page needs {missing}: pip install 'celery-batches-notify[web]'"


@pytest.mark.parametrize(
    ("make", "cause"),
    [
        (lambda app: app, "call Batches(app) once"),
        (Batches, "set batches_backend_url"),
    ],
    ids=["no batches", "no store"],
)
def test_a_page_without_a_store_says_so_and_its_log_says_why(
    make: Callable[[Celery], object], cause: str
) -> None:
    testclient = pytest.importorskip("starlette.testclient")
    from celery_batches_notify.web import status_page

    app = Celery("shop", broker="amqp://", backend=None, set_as_current=False)
    make(app)
    client = testclient.TestClient(status_page(app), raise_server_exceptions=False)
    answer = client.get("/", headers={"accept": "application/json"})
    assert (answer.status_code, answer.json()["error"]) == (500, "no_store")
    assert "no store of batches" in client.get("/").text
    strict = testclient.TestClient(status_page(app))  # raises what a server logs
    with pytest.raises(ConfigurationError) as caught:
        strict.get("/")
    assert cause in str(caught.value)
    assert "\n" not in str(caught.value)
