"""`celery -A proj batch test-notify`, run as people run it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.command_line import celery, install
from tests.support.http_server import answer, serving
from tests.support.own_notifiers import ESCAPES
from tests.support.servers import ROOT
from tests.support.smtp_server import serving_smtp

NOTIFIERS = {"hostile": "tests.support.own_notifiers.Hostile"}
UNSAFE = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
HEAVY = {"apprise", "premailer", "requests", "requests_hardened", "smtplib", "urllib3", "yagmail"}

Command = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return install(tmp_path_factory.mktemp("installed"))


@pytest.fixture(scope="module")
def test_notify(installed: Path) -> Command:
    """Run the command for the app `proj`; no store is needed for it, so there is none."""

    def run(*words: str, **notifications: Any) -> subprocess.CompletedProcess[str]:
        return celery(
            installed,
            *("-A", "tests.projects.proj", "batch", "test-notify", *words),
            BATCHES_TEST_URL="redis://127.0.0.1:1/0",
            BATCHES_TEST_NOTIFICATIONS=json.dumps(notifications),
            BATCHES_TEST_NOTIFIERS=json.dumps(NOTIFIERS),
        )

    return run


def refused(done: subprocess.CompletedProcess[str]) -> str:
    """Return the one line that says why, and what to do."""
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("Error: ")
    assert not UNSAFE.search(done.stderr)
    return line.removeprefix("Error: ")


def test_a_mail_is_sent_and_the_servers_answer_printed(test_notify: Command) -> None:
    with serving_smtp() as server:
        configured = {
            "from": "celery@example.com",
            "via": "smtp",
            "via_options": {"address": "127.0.0.1", "port": server.port},
        }
        done = test_notify("email", "--to", "me@example.com", email=configured)
    assert done.returncode == 0, done.stderr
    assert re.fullmatch(r"email: accepted for 1 of 1 recipients \(\d+\.\d\d s\)\n", done.stdout)
    assert done.stderr == ""
    assert server.only.recipients == ["me@example.com"]
    assert "Sample batch" in server.only.message["Subject"]


def test_a_profile_is_a_channel_and_json_is_an_options_value(test_notify: Command) -> None:
    with serving(answer(204)) as server:
        done = test_notify(
            "webhook:billing",
            *("--headers", '{"X-Team": "billing"}', "--timeout", "3"),
            **{"webhook:billing": {"url": f"{server.url}/hook"}},
        )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("webhook:billing: 204 No Content (")
    assert server.only.headers["x-team"] == "billing"
    assert server.only.json["bid"] == "sample-notification-00"


def test_two_samples_are_two_notifications(test_notify: Command) -> None:
    with serving(answer(200)) as server:
        for _ in range(2):
            test_notify("webhook", webhook={"url": server.url})
    ids = [request.headers["webhook-id"] for request in server.received]
    assert len(set(ids)) == 2


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pigeon"], "there is no notifier 'pigeon'; there are apprise, campfire"),
        (["webhook:nobody"], "describe it in batches_notifications"),
        (["webhook"], "url is missing: give it to on(event, 'webhook', url=…), or write it into"),
        (["webhook", "--url", "nonsense"], "give an http:// or https:// address"),
        (["webhook", "--colour", "red"], "there is no option 'colour'; its options are timeout"),
        (["webhook", "--url"], "in pairs, such as --to me@example.com"),
        (["webhook", "url", "http://x"], "in pairs, such as --to me@example.com"),
        (["email", "--to", "me"], "user@host"),
        (["webhook", "--url", "env:NOT_SET"], "environment variable NOT_SET: set it"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_sent_is_refused_in_one_line_that_says_the_mend(
    test_notify: Command, words: list[str], said: str
) -> None:
    assert said in refused(test_notify(*words))


def test_a_receiver_that_refuses_is_an_error_with_its_words(test_notify: Command) -> None:
    with serving(answer(404, b"no_such_hook")) as server:
        line = refused(test_notify("slack", slack={"url": f"{server.url}/services/SENTINEL"}))
    assert line == f"{server.url}: answered 404 Not Found: no_such_hook"


def test_a_server_that_is_away_is_an_error(test_notify: Command) -> None:
    line = refused(test_notify("webhook", "--url", "http://127.0.0.1:1/SENTINEL"))
    assert line.startswith("http://127.0.0.1:1: ")
    assert "SENTINEL" not in line


def test_without_an_app_the_error_says_to_name_it(installed: Path) -> None:
    line = refused(celery(installed, "batch", "test-notify", "email", "--to", "me@example.com"))
    assert "celery -A proj batch" in line


def test_an_app_that_is_not_there_is_an_error(installed: Path) -> None:
    done = celery(installed, "-A", "no_such_app", "batch", "test-notify", "email")
    assert done.returncode != 0
    assert "no_such_app was not found" in done.stderr


def test_nothing_that_a_mail_server_says_reaches_the_terminal_as_an_order(test_notify: Command) -> None:
    with serving_smtp(answers={"me@example.com": [f"550 {ESCAPES.splitlines()[0]}"]}) as server:
        configured = {"via": "smtp", "via_options": {"address": "127.0.0.1", "port": server.port}}
        line = refused(test_notify("email", "--to", "me@example.com", email=configured))
    assert "refused every recipient" in line


def test_nothing_that_a_web_server_says_reaches_the_terminal_as_an_order(test_notify: Command) -> None:
    with serving(answer(400, ESCAPES.encode())) as server:
        line = refused(test_notify("webhook", "--url", server.url))
    assert line == f"{server.url}: answered 400 Bad Request"


@pytest.mark.parametrize("fails", [False, True])
def test_nothing_that_a_notifier_says_reaches_the_terminal_as_an_order(
    test_notify: Command, fails: bool
) -> None:
    done = test_notify("hostile", "--fails", json.dumps(fails))
    if fails:
        assert refused(done).startswith("ValueError in the notifier: Sample batch ]0;owned")
    else:
        assert len(done.stdout.splitlines()) == 1
        assert done.stdout.startswith("hostile: Sample batch ]0;owned")
        assert not UNSAFE.search(done.stdout)


def test_celery_lists_batch_among_its_commands(installed: Path) -> None:
    done = celery(installed, "--help")
    assert done.returncode == 0
    assert re.search(r"^  batch +Look after batches", done.stdout, re.MULTILINE)


def test_its_help_shows_how_to_give_options(installed: Path) -> None:
    done = celery(installed, "batch", "test-notify", "--help")
    assert done.returncode == 0
    assert "--to me@example.com" in done.stdout


def test_every_celery_command_loads_it_and_it_loads_nothing_heavy() -> None:
    code = (
        "import sys, celery.bin.celery; before = set(sys.modules); import celery_batches_notify.cli\n"
        "loaded = set(sys.modules) - before\n"
        f"print({HEAVY} & loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == "set()"
