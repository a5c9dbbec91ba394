"""The how-to pages on notifiers: their code runs, their configurations work, their JSON is what is sent."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import socket
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import jsonschema
import pytest
from celery import Celery

from celery_batches_notify import Batch, Batches
from celery_batches_notify.errors import ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.notifiers.base import Notifier, build_notifier, refuse_secrets
from celery_batches_notify.notifiers.chat.apprise import Apprise
from celery_batches_notify.notifiers.chat.campfire import Campfire
from celery_batches_notify.notifiers.chat.discord import Discord
from celery_batches_notify.notifiers.chat.hipchat import HipChat
from celery_batches_notify.notifiers.chat.slack import Slack
from celery_batches_notify.notifiers.chat.slack_compatible import Mattermost, RocketChat
from celery_batches_notify.notifiers.chat.teams import Teams
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.registry import Registry
from celery_batches_notify.notifiers.signature import new_secret
from celery_batches_notify.notifiers.webhook import Webhook
from celery_batches_notify.settings import Settings
from tests.docs.pages import find_blocks, read_page, read_tables
from tests.support import samples
from tests.support.http_server import answer, serving

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    name: (DOCS / "how-to" / f"{name}.md").read_text("utf-8")
    for name in ("webhooks", "chat", "your-own-notifier")
}
KINDS: dict[str, type[Notifier]] = {
    kind.name: kind
    for kind in (Apprise, Campfire, Discord, HipChat, Mattermost, RocketChat, Slack, Teams, Webhook)
}


def blocks(page: str, language: str = "python") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGES[page], re.MULTILINE | re.DOTALL)


def block(page: str, containing: str, language: str = "python") -> str:
    (found,) = [code for code in blocks(page, language) if containing in code]
    return found


def profiles() -> Iterator[tuple[str, dict[str, Any]]]:
    for page in ("webhooks", "chat"):
        for code in blocks(page):
            if "batches_notifications" in code:
                app = SimpleNamespace(conf=SimpleNamespace())
                exec(code, {"app": app})
                yield from app.conf.batches_notifications.items()


@pytest.mark.parametrize(("name", "options"), list(profiles()), ids=lambda value: str(value)[:30])
def test_every_configuration_is_taken(name: str, options: dict[str, Any]) -> None:
    build_notifier(KINDS[name.partition(":")[0]], options, reveal=False)


def test_every_notifier_has_its_configuration() -> None:
    assert {name.partition(":")[0] for name, _ in profiles()} == KINDS.keys()


@pytest.mark.parametrize("name", ["chat", "email", "webhooks"])
def test_on_takes_what_a_page_passes_it_with_the_pages_configuration(name: str) -> None:
    app = Celery("page", broker="redis://localhost", set_as_current=False)
    app.conf.batches_backend_url = "redis://localhost"
    app.conf.batches_notifications, declaring = {}, []
    for found in find_blocks(f"how-to/{name}.md"):
        if "batches_notifications = " in found.code and "batch.on(" not in found.code:
            page: dict[str, Any] = {"app": SimpleNamespace(conf=SimpleNamespace())}
            exec(found.code, page)
            conf = page["app"].conf
            app.conf.batches_notifications |= page.get("batches_notifications") or conf.batches_notifications
        elif found.code.startswith("batch.on("):
            declaring.append(found.code)
    Batches(app)
    batch = Batch(app=app)
    for code in declaring:
        exec(code, {"batch": batch})
    assert len(batch._declaration._callbacks) >= len(declaring) > 0


def test_the_secrets_are_those_of_the_page_on_notifications() -> None:
    (table,) = [rows for rows in read_tables("how-to/notifications.md") if rows[0][0] == "channel"]
    named = {}
    for channels, options in table[1:]:
        codes = set(re.findall(r"`(\w+)`", options)) - {"via_options"}
        named |= dict.fromkeys(re.findall(r"`(\w+)`", channels), codes)
    kinds = {**KINDS, Email.name: Email}
    assert named == {name: {path.split(".")[-1] for path in kind.secrets} for name, kind in kinds.items()}
    page = read_page("how-to/notifications.md")
    assert all(f"`{path.split('.')[-1]}`" in page for path in Email.configured_only)


def test_every_drawing_of_a_chat_is_shown_and_small() -> None:
    shown = re.findall(r"\]\((\.\./images/[^)]+)\)", PAGES["chat"])
    pictures = sorted((DOCS / "images").glob("chat-*.png"))
    assert sorted(shown) == [f"../images/{path.name}" for path in pictures]
    assert all(path.stat().st_size < 80_000 for path in pictures)


@pytest.mark.parametrize("page", PAGES)
def test_every_block_of_python_is_python(page: str) -> None:
    for code in blocks(page):
        compile(code, page, "exec")


def test_the_body_on_the_page_is_one_that_is_sent() -> None:
    (body,) = [json.loads(code) for code in blocks("webhooks", "json")]
    schema = json.loads((DOCS / "reference" / "webhook.schema.json").read_text("utf-8"))
    jsonschema.Draft202012Validator(schema).validate(body)
    sent = samples.failing().as_dict()
    assert body.keys() == sent.keys()
    assert body["failure_info"][0].keys() == sent["failure_info"][0].keys()


def test_the_figures_of_the_request_on_the_page_agree() -> None:
    (body,) = [json.loads(code) for code in blocks("webhooks", "json")]
    ended = body["succeeded"] + body["dead"]
    assert (body["pending"], body["progress"]) == (body["total"] - body["succeeded"], ended / body["total"])
    assert body["failures"] == len(body["failure_info"])
    (timestamp,) = re.findall(r"^webhook-timestamp: (\d+)$", blocks("webhooks", "http")[0], re.MULTILINE)
    took = datetime.fromtimestamp(int(timestamp), UTC) - datetime.fromisoformat(body["complete_at"])
    assert timedelta(0) <= took < timedelta(minutes=1)


def test_the_headers_on_the_page_are_those_that_are_sent() -> None:
    with serving() as server:
        Webhook(url=server.url, secret=new_secret()).send(samples.notification())
    shown = re.findall(r"^([A-Za-z-]+):", blocks("webhooks", "http")[0], re.MULTILINE)
    transport = {"host", "accept", "accept-encoding", "connection", "content-length"}
    assert {name.lower() for name in shown} == server.only.headers.keys() - transport


@pytest.fixture
def signed(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A webhook as it is sent, and its receiver's secret in the environment."""
    monkeypatch.setenv("BATCHES_WEBHOOK_SECRET", new_secret())
    with serving() as server:
        Webhook(url=server.url, secret=os.environ["BATCHES_WEBHOOK_SECRET"]).send(samples.notification())
    return server.only


def test_the_receiver_in_flask_takes_ours_and_refuses_others(signed: Any) -> None:
    pytest.importorskip("flask")
    page: dict[str, Any] = {"__name__": "receiver"}
    exec(block("webhooks", "Flask"), page)
    client = page["web"].test_client()
    headers = {name: value for name, value in signed.headers.items() if name.startswith("webhook-")}
    assert client.post("/batches", data=signed.body, headers=headers).status_code == 204
    assert client.post("/batches", data=signed.body + b" ", headers=headers).status_code == 401


def test_the_receiver_in_django_takes_ours_and_refuses_others(signed: Any) -> None:
    pytest.importorskip("django")
    from django.test import RequestFactory

    from tests.support.django_project import set_up_django

    set_up_django()
    page: dict[str, Any] = {}
    exec(block("webhooks", "django"), page)
    headers = {name: value for name, value in signed.headers.items() if name.startswith("webhook-")}
    for body, status in ((signed.body, 204), (signed.body + b" ", 401)):
        request = RequestFactory().post(
            "/batches", data=body, content_type="application/json", headers=headers
        )
        assert page["receive_batch"](request).status_code == status


def test_the_receiver_with_another_library_takes_ours(signed: Any) -> None:
    page: dict[str, Any] = {}
    exec(block("webhooks", "standardwebhooks"), page)
    secret = os.environ["BATCHES_WEBHOOK_SECRET"]
    assert page["read_batch"](signed.body, dict(signed.headers), secret)["event"] == "success"


# Notifiers of one's own


def load(code: str, name: str, folder: Path) -> ModuleType:
    file = folder / f"{name}.py"
    file.write_text(code, "utf-8")
    spec = importlib.util.spec_from_file_location(name, file)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def pager(tmp_path: Path) -> Iterator[Any]:
    yield load(block("your-own-notifier", "# proj/pager.py"), "pager_of_the_page", tmp_path).Pager
    del sys.modules["pager_of_the_page"]


def test_the_pager_keeps_the_protocol(pager: Any) -> None:
    built = build_notifier(pager, {"routing_key": "R0"})
    assert isinstance(built, Notifier)
    assert "R0" not in repr(built)
    build_notifier(pager, {"routing_key": "env:PAGER_KEY"}, reveal=False)
    with pytest.raises(InvalidCallback, match="routing_key"):
        refuse_secrets(pager, {"routing_key": "R0"})
    with pytest.raises(ConfigurationError, match=r"^pager: severity must be"):
        build_notifier(pager, {"routing_key": "R0", "severity": "awful"})


def test_the_pager_opens_and_closes_one_incident(pager: Any) -> None:
    with serving(answer(202, b"{}", "application/json")) as server:
        for notification in (samples.failing(), samples.notification()):
            assert pager(routing_key="R0", url=server.url).send(notification) == "202 Accepted"
    opened, closed = (request.json for request in server.received)
    assert (opened["event_action"], closed["event_action"]) == ("trigger", "resolve")
    assert opened["dedup_key"] == closed["dedup_key"] == samples.BID
    assert opened["payload"]["summary"] == "✗ 1 of 4 failed for good, 1 will be retried: Import rows"


def test_the_pager_raises_errors_that_decide_what_comes_next(pager: Any) -> None:
    with serving(answer(429, Retry_After=30)) as server, pytest.raises(NotificationFailed) as caught:
        pager(routing_key="R0", url=server.url).send(samples.notification())
    assert caught.value.retry_after == 30


def test_the_pager_is_found_by_the_setting(pager: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    page: dict[str, Any] = {"app": SimpleNamespace(conf=SimpleNamespace())}
    exec(block("your-own-notifier", "batches_notifiers"), page)
    conf = page["app"].conf
    assert conf.batches_notifiers == {"pager": "proj.pager.Pager"}
    app = Celery("page", broker="redis://localhost", set_as_current=False)
    app.conf.update(batches_notifiers={"pager": f"{pager.__module__}.Pager"})
    app.conf.update(batches_notifications=conf.batches_notifications)
    monkeypatch.setenv("PAGER_KEY", "R0")
    registry = Registry(Settings.from_app(app))
    assert registry.build("pager", {}) == pager(routing_key="R0")
    assert registry.build("pager:nightly", {}) == pager(routing_key="R0", severity="info")
    assert registry.name_of(pager) == "pager"


def test_the_screen_shows_a_line_or_says_why_not(tmp_path: Path) -> None:
    screen = load(block("your-own-notifier", "# proj/screen.py"), "screen_of_the_page", tmp_path).Screen
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        assert screen(host="127.0.0.1", port=port).send(samples.notification()) == "31 characters shown"
        connection, _ = listener.accept()
        with connection:
            assert connection.recv(100).decode() == "✓ All 50 succeeded: Import rows\n"
    with pytest.raises(NotificationFailed, match=rf"127\.0\.0\.1:{port}: "):
        screen(host="127.0.0.1", port=port).send(samples.notification())
