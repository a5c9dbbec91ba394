"""Each project under `examples/` starts with its one command and imports rows."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path

import pytest

from celery_batches_notify.testing.server import find_free_port
from tests.support.servers import ROOT, wait_until

Ask = Callable[..., str]


@contextmanager
def running(example: str) -> Iterator[Ask]:
    """Run an example as its README says; yield what asks its pages, as a browser does."""
    port = str(find_free_port())
    command = [sys.executable, str(ROOT / "examples" / "run.py"), example, "--port", port]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    browser = urllib.request.build_opener(urllib.request.HTTPCookieProcessor(CookieJar()))
    browser.addheaders = [("Sec-Fetch-Site", "same-origin")]

    def ask(path: str = "/", **form: object) -> str:
        data = urllib.parse.urlencode(form).encode() if form else None
        with browser.open(f"http://127.0.0.1:{port}{path}", data, timeout=30) as answer:
            ask.url = answer.url  # type: ignore[attr-defined]
            return str(answer.read().decode())

    def answers() -> bool:
        try:
            return bool(ask())
        except OSError:
            return process.poll() is not None

    with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as process:
        try:
            wait_until(answers, seconds=120, what="the web application")
            yield ask
        finally:
            process.send_signal(signal.SIGINT)
            process.wait(30)


@pytest.mark.parametrize("example", ["fastapi", "flask"])
def test_an_import_shows_its_progress_to_the_end(example: str) -> None:
    pytest.importorskip(example)
    with running(example) as ask:
        assert "<form" in ask()
        for wrong in ("many", 0, 10_001):
            with pytest.raises(urllib.error.HTTPError, match="400"):
                ask("/imports", rows=wrong)
        assert "Import 80 rows" in ask("/imports", rows=80)
        path = urllib.parse.urlsplit(ask.url).path
        if example == "fastapi":
            *_, last = re.findall(r"data: (.*)", ask(f"{path}/events"))
            assert '"state": "dead"' in last and '"succeeded": 78' in last
        else:
            wait_until(lambda: "dead: 78 of 80, 2 failed" in ask(path), seconds=120)
        with pytest.raises(urllib.error.HTTPError, match="404"):
            ask("/imports/0123456789abcdef")
        bid = path.rpartition("/")[2]
        assert f'href="/batches/{bid}"' in ask(path)
        assert "Import 80 rows" in ask("/batches/")
        assert json.loads(ask(f"/batches/{bid}.json"))["dead"] == 2


def test_djangos_batch_leaves_with_its_rows_or_not_at_all() -> None:
    pytest.importorskip("django")
    with running("django") as ask:
        form = {"csrfmiddlewaretoken": token_in(ask()), "rows": 80}
        with pytest.raises(urllib.error.HTTPError, match="500"):
            ask("/imports", fail=1, **form)
        with pytest.raises(urllib.error.HTTPError, match="400"):
            ask("/imports", **form | {"rows": "many"})
        assert "Import 1" in ask("/imports", **form)
        wait_until(lambda: "dead: 78 of 80, 2 failed" in ask(), seconds=120)
        assert ask().count("<p>Import") == 1, "the one that failed left no rows"
        check_the_admin(ask)


def check_the_admin(ask: Ask) -> None:
    """The admin shows the one batch to those who have logged in, and they may act on it."""
    login = {"csrfmiddlewaretoken": token_in(ask("/admin/batches/")), "username": "admin"}
    path = urllib.parse.urlsplit(ask.url).path  # type: ignore[attr-defined]
    assert path == "/admin/login/"
    assert "correct username and password" in ask(f"{path}?next=/admin/batches/", password="x", **login)
    assert "Import 80 rows" in ask(f"{path}?next=/admin/batches/", password="admin", **login)
    (batch,) = json.loads(ask("/admin/batches/list.json"))["batches"]
    listed = ask("/admin/shop/import/")
    assert "dead: 78 of 80, 2 failed" in listed
    assert f'<a href="/admin/batches/{batch["bid"]}">' in listed
    plan = ask(f"/admin/batches/{batch['bid']}/retry")
    (token,) = re.findall(r'name="token" value="(\w+)"', plan)
    assert "Import 80 rows" in ask(f"/admin/batches/{batch['bid']}/retry", token=token)


UNDER_ASGI = """
import asyncio, django, re
django.setup()
from django.contrib.auth.models import User
from django.core.management import call_command
from django.test import AsyncClient
from django.test.utils import setup_test_environment
from celery_batches_notify import Batch
from shop.tasks import import_row

setup_test_environment()
call_command("migrate", "--run-syncdb", verbosity=0)
admin = User.objects.create_superuser("admin")
batch = Batch("Imports")
batch.map(import_row, range(3))

async def visit():
    client = AsyncClient()
    assert (await client.get("/admin/batches/")).status_code == 302
    await client.aforce_login(admin)
    assert b"Imports" in (await client.get("/admin/batches/")).content
    path = f"/admin/batches/{batch.bid}/cancel"
    (token,) = re.findall(r'name="token" value="(\\w+)"', (await client.get(path)).content.decode())
    form = {"data": f"token={token}", "content_type": "application/x-www-form-urlencoded"}
    answer = await client.post(path, headers={"sec-fetch-site": "same-origin"}, **form)
    assert answer.status_code == 303, answer.content

asyncio.run(visit())
print(batch.status().state)
"""


def test_the_admins_page_is_there_under_asgi(server_url: str, tmp_path: Path) -> None:
    pytest.importorskip("django")
    path = os.pathsep.join([str(ROOT), str(ROOT / "examples" / "django")])
    env = {**os.environ, "PYTHONPATH": path, "DJANGO_SETTINGS_MODULE": "shop.settings"}
    env |= {"BATCHES_EXAMPLE_URL": server_url, "BATCHES_EXAMPLE_DIRECTORY": str(tmp_path)}
    command = [sys.executable, "-c", UNDER_ASGI]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    assert done.stdout == "cancelled\n", done.stderr


def token_in(page: str) -> str:
    """Return Django's token for the form of a page."""
    return re.findall(r'csrfmiddlewaretoken"? value="(\w+)"', page)[0]
