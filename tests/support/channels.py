"""The channels that keep the contract, each with a real server that speaks its protocol.

To put another notifier under the contract, write a class with the attributes and methods of `Channel`, and
add an instance to `CHANNELS`.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from html.parser import HTMLParser
from typing import Any, Protocol

import apprise as apprise_library

from celery_batches_notify.notifiers.base import Notifier
from celery_batches_notify.notifiers.chat.apprise import Apprise
from celery_batches_notify.notifiers.chat.campfire import Campfire
from celery_batches_notify.notifiers.chat.discord import Discord
from celery_batches_notify.notifiers.chat.hipchat import HipChat
from celery_batches_notify.notifiers.chat.slack import Slack
from celery_batches_notify.notifiers.chat.slack_compatible import Mattermost, RocketChat
from celery_batches_notify.notifiers.chat.teams import Teams
from celery_batches_notify.notifiers.signature import PREFIX
from celery_batches_notify.notifiers.webhook import Webhook
from tests.support import http_server as receivers
from tests.support.http_server import Behaviour, Received, answer, serving

with warnings.catch_warnings(action="ignore"):  # its plugins load modules that Python has deprecated
    apprise_library.Apprise.instantiate("json://localhost")

CANARY = "SENTINEL9f3"
SECONDS = 0.3


class Mood(StrEnum):
    """What a receiver does."""

    ACCEPTS = "accepts"
    FAILS = "fails for now"
    REFUSES = "refuses for good"
    IS_GONE = "is gone"
    IS_BUSY = "is busy for 7 s"
    HANGS = "hangs"
    DRIPS = "drips"
    BREAKS = "breaks the connection"
    TELLS = "refuses, and repeats the secret"


class Channel(Protocol):
    """One way of notifying, as the contract sees it.

    Attributes:
        label: What test names show.
        kind: The notifier's class.
        secrets: Every canary in the options, as it is written there and as it goes over the wire.
        tells_wait: Whether the protocol can say how long to wait, and the notifier hears it.
        is_for_people: Whether people read the message, so that hostile text must be made harmless.
    """

    label: str
    kind: type[Notifier]
    secrets: frozenset[str]
    tells_wait: bool
    is_for_people: bool

    def open(self, mood: Mood) -> Any:
        """Return a context manager that runs a server in this mood and gives a `Visit`."""
        ...


@dataclass(slots=True, kw_only=True)
class Visit:
    """A running server: how to reach it, and what it got.

    Attributes:
        options: The notifier's options, with canaries for secrets.
        count: Says how many messages arrived.
        texts: Says what was written in them, by markup.
    """

    options: Mapping[str, Any]
    count: Callable[[], int]
    texts: Callable[[], list[tuple[Harmless, str]]]


Harmless = Callable[[str], None]

MOODS: dict[Mood, Behaviour] = {
    Mood.FAILS: answer(500, b"oops"),
    Mood.REFUSES: answer(404),
    Mood.IS_GONE: answer(410),
    Mood.IS_BUSY: answer(429, Retry_After=7),
    Mood.HANGS: receivers.hang,
    Mood.DRIPS: receivers.drip_headers(),
    Mood.BREAKS: receivers.reset,
}


@dataclass(frozen=True, kw_only=True)
class HttpChannel:
    label: str
    kind: type[Notifier]
    options: Callable[[str], Mapping[str, Any]]
    accepts: Behaviour
    read: Callable[[Received], list[tuple[Harmless, str]]] = field(default=lambda _: [])
    secrets: frozenset[str] = frozenset({CANARY})
    credential: str = CANARY
    tells_wait: bool = True
    is_for_people: bool = True

    @contextmanager
    def open(self, mood: Mood) -> Iterator[Visit]:
        timeout = SECONDS if mood in (Mood.HANGS, Mood.DRIPS) else 10
        tells = answer(400, f"{self.credential} is wrong".encode())
        with serving({Mood.ACCEPTS: self.accepts, Mood.TELLS: tells, **MOODS}[mood]) as server:
            yield Visit(
                options={"timeout": timeout, **self.options(server.url)},
                count=lambda: len(server.received),
                texts=lambda: [text for request in server.received for text in self.read(request)],
            )


# Harmless in each kind of markup

RINGING = ("all", "channel", "everyone", "here", "room", "team")


def is_harmless_plain(text: str) -> None:
    assert not re.search(
        r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b\u2028\u2029\u202a-\u202e\u2060\u2066-\u2069\ufeff]", text
    ), "control characters, or what nobody sees"


def rings_nobody(text: str) -> None:
    is_harmless_plain(text)
    for found in re.finditer(r"[@\uff20](?=\S)", text):
        before, after = text[: found.start()], text[found.end() :]
        begins_a_word = not before or not (before[-1].isalnum() or before[-1] in "._+-")
        name = re.match(r"\w*", after)
        assert not begins_a_word and name and name[0].lower() not in RINGING, "a mention"


def is_harmless_line(text: str) -> None:
    rings_nobody(text)
    assert "\n" not in text


def is_plain_line(text: str) -> None:
    is_harmless_plain(text)
    assert "\n" not in text


def is_harmless_slack(text: str) -> None:
    is_harmless_plain(text)
    for inside in re.findall(r"<([^>]*)>", text):
        assert inside.startswith("https://ops.test/")
    assert text.count("```") in (0, 2)
    assert not re.search(r"&(?!amp;|lt;|gt;)", text), "an entity"


def is_slack_line(text: str) -> None:
    """What push messages show has no block to end; every mention and link begins with a `<`."""
    is_plain_line(text)
    assert "<" not in text


def is_harmless_markdown(text: str) -> None:
    rings_nobody(text)
    assert not re.search(r"\][(\[:]", text), "a link"
    assert not re.search(r"<\S", text), "a tag"
    assert "```" not in text


def is_one_fence(text: str) -> None:
    """Inside of a block of code, only its end means anything."""
    is_harmless_plain(text)
    assert not text or (text.startswith("```\n") and text.endswith("\n```"))
    assert text.count("```") in (0, 2)


class _Html(HTMLParser):
    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ("a", "b", "strong", "br", "pre", "code")
        assert all(
            name == "href" and value and value.startswith("https://ops.test/") for name, value in attrs
        )

    def handle_comment(self, data: str) -> None:
        raise AssertionError("a comment")

    handle_decl = handle_pi = unknown_decl = handle_comment


def is_harmless_html(text: str) -> None:
    is_harmless_plain(text)
    parser = _Html()
    parser.feed(text)
    parser.close()


# What each service is sent


def read_campfire(request: Received) -> list[tuple[Harmless, str]]:
    assert request.json["message"]["type"] == "TextMessage"
    return [(is_harmless_line, request.json["message"]["body"])]


def read_slack(request: Received) -> list[tuple[Harmless, str]]:
    message = request.json
    assert message["unfurl_links"] is message["unfurl_media"] is False
    found = [(is_slack_line, message["text"])]
    for block in [*message["blocks"], *message["attachments"][0]["blocks"]]:
        for text in filter(None, (*block.get("fields", []), *block.get("elements", []), block.get("text"))):
            is_plain = text["type"] == "plain_text"  # which is shown to the letter
            assert text["emoji"] is False if is_plain else text["verbatim"]
            found.append((is_harmless_plain if is_plain else is_harmless_slack, text["text"]))
    return found


def read_attachments(request: Received) -> list[tuple[Harmless, str]]:
    (attachment,) = request.json["attachments"]
    assert "text" not in request.json
    found = [(is_harmless_markdown, attachment[name]) for name in ("title", "fallback")]
    found += [(is_harmless_markdown, field["value"]) for field in attachment["fields"]]
    return [*found, (is_one_fence, attachment.get("text", ""))]


def read_discord(request: Received) -> list[tuple[Harmless, str]]:
    assert request.json["allowed_mentions"] == {"parse": []}
    (embed,) = request.json["embeds"]
    found = [embed["title"], *(field["value"] for field in embed["fields"])]
    return [*((is_harmless_markdown, text) for text in found), (is_one_fence, embed.get("description", ""))]


def read_teams(request: Received) -> list[tuple[Harmless, str]]:
    (attachment,) = request.json["attachments"]
    card = attachment["content"]
    assert "entities" not in card["msteams"]  # without which no text is a mention
    title, facts, *errors = card["body"]
    found = [(is_harmless_markdown, text) for text in (title["text"], card["fallbackText"])]
    found += [(is_harmless_markdown, fact["value"]) for fact in facts["facts"]]
    return found + [(is_plain_line, run["text"]) for block in errors for run in block["inlines"]]


def read_apprise(request: Received) -> list[tuple[Harmless, str]]:
    return [(is_harmless_line, request.json["title"]), (rings_nobody, request.json["message"])]


def secret_url(url: str) -> dict[str, Any]:
    return {"url": f"{url}/hooks/{CANARY}/x?key={CANARY}"}


CHANNELS: list[Channel] = [
    HttpChannel(
        label="webhook",
        kind=Webhook,
        options=lambda url: {
            **secret_url(url),
            "username": "mike",
            "password": CANARY,
            "secret": f"{PREFIX}{CANARY}AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
            "headers": {"X-Token": CANARY, "X-Echo": "auth"},
        },
        accepts=answer(204),
        secrets=frozenset({CANARY, "bWlrZTpTRU5USU5FTDlmMw=="}),
        is_for_people=False,
    ),
    HttpChannel(
        label="campfire-classic",
        kind=Campfire,
        options=lambda url: {"url": url, "roomid": 111111, "token": CANARY},
        accepts=answer(201, b'{"message": {"id": 1}}', "application/json"),
        read=read_campfire,
        secrets=frozenset({CANARY, "U0VOVElORUw5ZjM6WA=="}),
    ),
    HttpChannel(
        label="campfire-today",
        kind=Campfire,
        options=lambda url: {"url": url, "roomid": 42, "bot_key": f"7-{CANARY}"},
        accepts=answer(201, Location="/rooms/42/@1"),
        credential=f"7-{CANARY}",
        read=lambda request: [(is_harmless_html, request.body.decode())],
    ),
    HttpChannel(
        label="hipchat-v2",
        kind=HipChat,
        options=lambda url: {"url": url, "roomid": 111111, "token": CANARY},
        accepts=answer(204),
        read=lambda request: [(is_harmless_html, request.json["message"])],
    ),
    HttpChannel(
        label="hipchat-v1",
        kind=HipChat,
        options=lambda url: {"url": url, "roomid": 111111, "token": CANARY, "api": "v1"},
        accepts=answer(200, b'{"status": "sent"}', "application/json"),
        read=lambda request: [(is_harmless_html, request.form["message"])],
    ),
    HttpChannel(label="slack", kind=Slack, options=secret_url, accepts=answer(200, b"ok"), read=read_slack),
    HttpChannel(
        label="mattermost",
        kind=Mattermost,
        options=secret_url,
        accepts=answer(200, b"ok"),
        read=read_attachments,
    ),
    HttpChannel(
        label="rocketchat",
        kind=RocketChat,
        options=secret_url,
        accepts=answer(200, b'{"success": true}', "application/json"),
        read=read_attachments,
    ),
    HttpChannel(label="discord", kind=Discord, options=secret_url, accepts=answer(204), read=read_discord),
    HttpChannel(label="teams", kind=Teams, options=secret_url, accepts=answer(202), read=read_teams),
    HttpChannel(
        label="apprise",
        kind=Apprise,
        options=lambda url: {"urls": f"{url.replace('http:', 'json:')}/{CANARY}?+X-Token={CANARY}"},
        accepts=answer(200),
        read=read_apprise,
        tells_wait=False,
    ),
]
