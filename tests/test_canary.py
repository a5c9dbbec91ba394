"""Puts one secret into every place that may hold one, and looks for it in every output."""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from celery import Celery
from redis import Redis

from celery_batches_notify import Batch, BatchStatus
from celery_batches_notify.testing.server import embedded_server
from tests.support import canary
from tests.support.apps import open_app
from tests.support.canary import CANARY, SIGNING_KEY, WEIRD
from tests.support.command_line import celery, install
from tests.support.eavesdropping import Eavesdropper, listening, save
from tests.support.http_server import Handler, Received, answer, serving
from tests.support.servers import running_worker, wait_until
from tests.support.smtp_server import serving_smtp

NOTIFIERS = {"careless": "tests.support.own_notifiers.Careless"}
MAY_CARRY = {"authorization", "x-auth", "x-token"}
WHERE = (
    "what the store was asked",
    "what the store holds while it works",
    "what the store holds in the end",
    "the worker's log",
    "the producer's log",
    "statuses",
    "delivery logs",
    "webhooks and chats",
    "mails",
    "reprs",
    "errors",
    "celery report",
    "celery inspect conf",
    "celery inspect stats",
    "test-notify webhook:good",
    "test-notify slack:refusing",
    "test-notify email:wrong",
    "test-notify careless:dead",
)


def tell(status: int) -> Callable[[Handler], None]:
    """Refuse, and repeat the login or the address, as careless receivers do."""

    def behave(handler: Handler) -> None:
        request = handler.server.received[-1]
        answer(status, request.headers.get("authorization", request.path).encode())(handler)

    return behave


def fail_once(handler: Handler) -> None:
    (tell(503) if len(handler.server.received) == 1 else answer(200, b"ok"))(handler)


def body_of(request: Received) -> str:
    """Return a request without what carries a secret: some headers, the address, HipChat's old form."""
    headers = {name: value for name, value in request.headers.items() if name not in MAY_CARRY}
    body = re.sub(r"auth_token=[^&]*", "", request.body.decode())
    return f"{headers} {body}"


def settled(status: BatchStatus) -> bool:
    """Whether every callback was delivered, given up, or has failed for now."""
    ends = {"delivered", "given_up"}
    return all(c.state in ends or (c.state == "due" and c.attempts) for c in status.callbacks)


def run_batch(app: Celery, profiles: dict[str, Any], *, member: str) -> Batch:
    batch = Batch(f"{member} batch", tags=("canary",), app=app)
    for name in profiles:
        batch.on("finish", name)
    batch.add(app.tasks["proj.ok"].s("x"), app.tasks[f"proj.{member}"].s("y"))
    return batch


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Run everything once with the canary in every place, and collect all output."""
    found: dict[str, str] = {}
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        options = ("--requirepass", WEIRD, "--rdbcompression", "no")
        plain_url = stack.enter_context(embedded_server(*options))
        port = urlsplit(plain_url).port or 0
        url = f"redis://:{quote(WEIRD, safe='')}@127.0.0.1:{port}/0"
        client = Redis.from_url(url)
        stack.callback(client.close)
        heard = stack.enter_context(listening())
        monitor = Eavesdropper(port, WEIRD)
        stack.callback(monitor.close)

        good, refusing = (stack.enter_context(serving(b)) for b in (answer(200, b"ok"), tell(410)))
        busy = stack.enter_context(serving(fail_once))
        mails = stack.enter_context(serving_smtp(offers=("PLAIN",)))
        slow_mails = stack.enter_context(
            serving_smtp(offers=("PLAIN",), answers={"DATA": ["451 later", "250 OK"]})
        )
        for name, value in canary.environment(good=good.url, refusing=refusing.url).items():
            patch.setenv(name, value)
        delivered = canary.http_profiles("good", good.url) | canary.mail_profile(
            "good", "127.0.0.1", mails.port
        )
        delivered |= {"webhook:busy": {"url": f"{busy.url}/{CANARY}"}}
        delivered |= canary.mail_profile("busy", "localhost", slow_mails.port)
        failing = canary.http_profiles("refusing", refusing.url)
        failing |= canary.mail_profile("wrong", "LOCALHOST", mails.port, good=False)
        failing |= {"slack:dead": {"url": f"http://127.0.0.1:1/{CANARY}"}}
        failing |= {"careless:dead": {"url": f"http://127.0.0.1:2/x/{CANARY}?k={WEIRD}", "token": CANARY}}
        if find_spec("apprise"):
            delivered |= canary.apprise_profile("good", good.url)
            failing |= canary.apprise_profile("refusing", refusing.url)
        notifications = delivered | failing
        environment = {
            "BATCHES_TEST_BROKER": url,
            "BATCHES_TEST_BACKEND": url,
            "BATCHES_TEST_NOTIFICATIONS": json.dumps(notifications),
            "BATCHES_TEST_NOTIFIERS": json.dumps(NOTIFIERS),
        }
        conf = {"batches_notifications": notifications, "batches_notifiers": NOTIFIERS}
        app = stack.enter_context(open_app(url, **conf))

        batches = [run_batch(app, delivered, member="ok"), run_batch(app, failing, member="fail")]
        found["what the store holds while it works"] = save(client)
        with running_worker(url, "prefork", "-l", "DEBUG", "-n", "canary@tests", **environment) as worker:
            first, second = batches
            wait_until(lambda: {c.state for c in first.status().callbacks} == {"delivered"}, what="delivery")
            wait_until(lambda: settled(second.status()), what="failure")
            installed = install(tmp_path_factory.mktemp("installed"))
            environment["BATCHES_TEST_URL"] = url
            for command in (name for name in WHERE if name.startswith("celery ")):
                patience = ("-d", "canary@tests", "-t", "30") if " inspect " in command else ()
                done = celery(
                    installed, "-A", "tests.projects.proj", *command.split()[1:], *patience, **environment
                )
                assert done.returncode == 0, done.stderr
                found[command] = done.stdout + done.stderr
            for name in (name for name in WHERE if name.startswith("test-notify ")):
                done = celery(installed, "-A", "tests.projects.proj", "batch", *name.split(), **environment)
                assert done.returncode == (0 if name.endswith("good") else 1)
                found[name] = done.stdout + done.stderr
        found["the worker's log"] = worker.log.read_text("utf-8", "replace")

        found["statuses"] = json.dumps([batch.status().as_dict() for batch in batches])
        found["delivery logs"] = repr([batch.deliveries() for batch in batches])
        requests = [*good.received, *refusing.received, *busy.received]
        found["webhooks and chats"] = "\n".join(map(body_of, requests))
        sent = [*mails.received, *slow_mails.received]
        found["mails"] = "\n".join(mail.content.decode() for mail in sent)
        found["reprs"] = show(app, notifications)
        found["errors"] = "\n".join(provoke(app, url))
        found["what the store holds in the end"] = save(client)
        found["what the store was asked"] = monitor.close()
        found["the producer's log"] = heard.getvalue()
        yield found


def show(app: Celery, notifications: dict[str, Any]) -> str:
    """Return all our objects as debuggers and error reports print them."""
    extension = app._batches_extension
    engine = extension.engine
    things = [app, extension, *vars(extension).values(), engine, engine.settings]
    things += [engine.store.client, engine.store.client.connection_pool, Batch(app=app), app.conf.humanize()]
    things += [app.conf.table(), json.dumps(app.conf.table(), default=repr)]
    for name in notifications:
        notifier = engine.registry.build(name, {})
        things += [notifier, [notifier], f"{notifier}"]
    return "\n".join(map(repr, things)) + "\n".join(map(str, things))


WRONG: dict[str, list[dict[str, Any]]] = {
    "webhook": [
        {"url": f"http://x/{CANARY}\n"},
        {"url": f"ftp://x/{CANARY}"},
        {"url": f"https://user:{CANARY}@x/"},
        {"url": f"https://[{CANARY}/"},
        {"url": f"https://x:{CANARY}/"},
        {"url": "https://x", "username": "mike", "password": f"{CANARY}\n"},
        {"url": "https://x", "username": "mike", "password": [CANARY]},
        {"url": "https://x", "secret": CANARY},
        {"url": "https://x", "secret": f"whsec_{CANARY}"},
        {"url": "https://x", "headers": {"X-Token": f"{CANARY}\n"}},
        {"url": "https://x", "headers": {"X-Token": f"{CANARY}é"}},
        {"url": "https://x", "headers": CANARY},
    ],
    "campfire": [{"roomid": 1, "token": CANARY, "bot_key": CANARY}, {"roomid": 1, "token": f"{CANARY}\0"}],
    "hipchat": [{"roomid": 1, "token": f"{CANARY}\n"}],
    "slack": [{"url": f"{CANARY}"}, {"url": f"http:///{CANARY}"}],
    "email": [
        {"to": "a@x.test", "via": "smtp", "via_options": {"user_name": "u", "password": [CANARY]}},
        {"to": "a@x.test", "via": "smtp", "via_options": {"password": CANARY}},
        {"to": "a@x.test", "via": "smtp", "via_options": CANARY},
    ],
}
if find_spec("apprise"):
    WRONG["apprise"] = [{"urls": CANARY}, {"urls": f"nosuch://{CANARY}"}]
STORES = (
    f"redis://:{CANARY}#1@127.0.0.1:1/0",
    f"redis://:{CANARY}/1@127.0.0.1:1/0",
    f"redis://:{CANARY}?1@127.0.0.1:1/0",
    f"redis://u:{CANARY}@[127.0.0.1:1/0",
    f"http://u:{CANARY}@127.0.0.1:1/0",
    f"redis://u:{CANARY}@127.0.0.1:1/0",
    f"redis://127.0.0.1:1/0?password={CANARY}",
)


def provoke(app: Celery, url: str) -> Iterator[str]:
    """Provoke every error that has a secret at hand, and yield its log text."""
    registry = app._batches_extension.engine.registry
    for name, wrong in WRONG.items():
        for options in wrong:
            yield told_by(lambda n=name, o=options: Batch(app=app).on("finish", n, **o))
            yield told_by(lambda n=name, o=options: registry.build(n, o, stored=False).send(None))
    yield told_by(lambda: Batch(app=app).on("finish", "slack:good", url=f"http://x/{CANARY}"))
    wrong_password = url.replace(quote(WEIRD, safe=""), CANARY)
    for store in (*STORES, wrong_password):
        yield told_by(lambda s=store: use_store(s))


def use_store(url: str) -> None:
    with open_app("memory://", batches_backend_url=url) as app:
        Batch(app=app).seal()


def told_by(what: Callable[[], object]) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 - which one does not matter, only what it tells
        what()
    told, error = traceback.format_exception(caught.value), caught.value
    lines = [line for text in told for line in text.splitlines() if not line.lstrip().startswith('File "')]
    return "\n".join(line for line in lines if "CANARY" not in line) + repr(error) + repr(vars(error))


@pytest.mark.parametrize("where", WHERE)
def test_the_canary_is_nowhere_in(evidence: dict[str, str], where: str) -> None:
    assert canary.find(evidence[where]) == []


@pytest.mark.parametrize(
    ("where", "what"),
    [
        ("what the store was asked", '"EVALSHA"'),
        ("what the store holds while it works", "webhook:busy"),
        ("what the store holds in the end", "careless:dead"),
        ("the worker's log", " DEBUG/MainProcess]"),
        ("the worker's log", ": given up (attempt "),
        ("the worker's log", "answered 410 Gone"),
        ("the producer's log", "batches live in redis://:**@127.0.0.1"),
        ("statuses", '"state": "given_up"'),
        ("delivery logs", "outcome='failed'"),
        ("delivery logs", "RuntimeError in the notifier: Max retries exceeded with url: "),
        ("webhooks and chats", "'webhook-signature': 'v1,"),
        ("mails", "ok batch"),
        ("reprs", "Webhook("),
        ("errors", "refused the user or the password"),
        ("celery report", "batches_notifications"),
        ("celery report", "env:CANARY_URL_GOOD"),
        ("celery inspect conf", "batches_backend_url"),
        ("celery inspect conf", "env:CANARY_URL_REFUSING"),
        ("test-notify webhook:good", "200 OK"),
        ("test-notify slack:refusing", "410 Gone"),
        ("test-notify email:wrong", "refused the login"),
        ("test-notify careless:dead", "RuntimeError in the notifier"),
    ],
)
def test_what_was_looked_through_is_what_it_should_be(
    evidence: dict[str, str], where: str, what: str
) -> None:
    assert what in evidence[where]


@pytest.mark.parametrize("secret", [CANARY, WEIRD, SIGNING_KEY, f"mike:{WEIRD}"])
def test_a_canary_would_be_found_in_any_form(secret: str) -> None:
    for form in canary.forms(secret):
        assert canary.find(f"before {form} after") or form in (secret.upper(),)
