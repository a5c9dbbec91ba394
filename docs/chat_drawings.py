"""Draw what chat services make of our messages, from the very payloads that are sent.

They are drawings: no service takes part. Each shows a message by day and at night, one shows push messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from html import escape
from typing import Any

from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.chat.campfire import render_html
from celery_batches_notify.notifiers.chat.discord import Discord
from celery_batches_notify.notifiers.chat.slack import Slack
from celery_batches_notify.notifiers.chat.slack_compatible import Mattermost
from celery_batches_notify.notifiers.chat.teams import Teams
from celery_batches_notify.notifiers.summary import summarise

_URL = "https://chat.example.com/hook"
_STYLE = """
* { box-sizing: border-box; margin: 0; }
body { display: flex; font: 15px/22px -apple-system, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif; }
.half { width: 50%; padding: 18px; }
.light { background: #fff; color: #1d1c1d; --line: #ddd; --soft: #616061; --code: #f6f6f6; }
.dark { background: #1a1d21; color: #d1d2d3; --line: #3c3f44; --soft: #9a9b9d; --code: #222529; }
.light { --link: #1264a3; }
.dark { --link: #5fb0f0; }
.who { font-weight: 700; margin-bottom: 4px; }
.who span { font: 12px sans-serif; color: var(--soft); margin-left: 6px; }
.card { border-left: 4px solid var(--edge); padding: 2px 0 2px 12px; margin-top: 6px; }
.box { background: var(--code); border-radius: 4px; padding: 12px 16px; }
h3 { font-size: 17px; line-height: 23px; overflow-wrap: anywhere; }
.fields { display: grid; grid-template-columns: 1fr 1fr; gap: 6px 16px; margin: 8px 0; }
.fields b, .fields i { display: block; font-style: normal; }
.fields i { color: var(--soft); font-size: 13px; line-height: 18px; }
pre { background: var(--code); border: 1px solid var(--line); border-radius: 4px; padding: 8px 10px;
  margin: 8px 0; font: 12px/18px ui-monospace, Menlo, Consolas, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
a { color: var(--link); text-decoration: none; }
.button { display: inline-block; border: 1px solid var(--line); border-radius: 4px; padding: 4px 14px; }
.small { font-size: 13px; color: var(--soft); }
.lock { padding: 22px 14px; width: 390px; background: #4a6796; }
.lock.night { background: #12151c; }
.push { background: #ffffffe6; color: #111; border-radius: 16px; padding: 10px 14px; margin-bottom: 8px; }
.night .push { background: #2a2d36e6; color: #f2f2f2; }
.push div { display: flex; justify-content: space-between; font-size: 12px; opacity: .65; }
.push p { font-size: 15px; line-height: 20px; display: -webkit-box; -webkit-line-clamp: 3;
  -webkit-box-orient: vertical; overflow: hidden; }
"""


def draw_all(failed: Notification, *others: Notification) -> dict[str, tuple[int, str]]:
    """Return the drawings as HTML with their widths, by the names of their pictures."""
    summary = summarise(failed)
    drawings: dict[str, Callable[[], str]] = {
        "chat-slack": lambda: _draw_slack(Slack(url=_URL).render(summary)),
        "chat-teams": lambda: _draw_teams(Teams(url=_URL).render(summary)),
        "chat-discord": lambda: _draw_discord(Discord(url=_URL).render(summary)),
        "chat-mattermost": lambda: _draw_mattermost(Mattermost(url=_URL).render(summary)),
        "chat-campfire": lambda: _say("Celery", render_html(summary)),
    }
    pages = {name: (1000, _twice(draw())) for name, draw in drawings.items()}
    return pages | {"chat-phone": (780, _draw_phones([n.subject for n in (failed, *others)]))}


def _twice(message: str) -> str:
    halves = "".join(f'<div class="half {mode}">{message}</div>' for mode in ("light", "dark"))
    return f"<!DOCTYPE html><style>{_STYLE}</style>{halves}"


def _draw_slack(payload: dict[str, Any]) -> str:
    (attachment,) = payload["attachments"]
    heading = f"<h3>{escape(payload['blocks'][0]['text']['text'])}</h3>"
    parts = []
    for block in attachment["blocks"]:
        if "fields" in block:
            parts.append(_fields(field["text"].split("\n", 1) for field in block["fields"]))
        elif block["type"] == "section":
            parts.append(_code(block["text"]["text"]))
        else:
            label = block["elements"][0]["text"].partition("|")[2].strip(">")
            parts.append(f'<a class="small">{escape(label)}</a>')
    return _say("Celery", heading + _card(attachment["color"], "".join(parts)))


def _draw_teams(payload: dict[str, Any]) -> str:
    card = payload["attachments"][0]["content"]
    title, facts, *lines = card["body"]
    colour = {"Good": "#237b4b", "Warning": "#c19c00", "Attention": "#d13438", "Accent": "#4f6bed"}
    heading = f'<h3 style="color:{colour[title["color"]]}">{escape(title["text"])}</h3>'
    rows = _fields((fact["title"], fact["value"]) for fact in facts["facts"])
    code = _code("\n".join(run["text"] for line in lines for run in line["inlines"]))
    button = "".join(f'<a class="button">{escape(action["title"])}</a>' for action in card.get("actions", []))
    return _say("Workflows", f'<div class="box">{heading}{rows}{code}{button}</div>')


def _draw_discord(payload: dict[str, Any]) -> str:
    (embed,) = payload["embeds"]
    fields = _fields((field["name"], field["value"]) for field in embed["fields"])
    inside = _title(embed["title"]) + _code(embed.get("description", "")) + fields
    card = _card(f"#{embed['color']:06x}", inside)
    return _say("Celery", f'<div class="box">{card}</div>')


def _draw_mattermost(payload: dict[str, Any]) -> str:
    (attachment,) = payload["attachments"]
    fields = _fields((field["title"], field["value"]) for field in attachment["fields"])
    inside = _title(attachment["title"]) + _code(attachment.get("text", "")) + fields
    return _say("Celery", _card(attachment["color"], inside))


def _draw_phones(lines: list[str]) -> str:
    def lock(night: str) -> str:
        pushes = (
            f'<div class="push"><div><span>#ops</span><span>06:0{n}</span></div><p>{escape(line)}</p></div>'
            for n, line in enumerate(lines, start=4)
        )
        return f'<div class="lock {night}">{"".join(pushes)}</div>'

    return f"<!DOCTYPE html><style>{_STYLE}</style>{lock('')}{lock('night')}"


def _fields(pairs: Iterable[Iterable[str]]) -> str:
    shown = (f"<div><i>{escape(name)}</i><b>{escape(value)}</b></div>" for name, value in pairs)
    return f'<div class="fields">{"".join(shown)}</div>'


def _code(fenced: str) -> str:
    text = fenced.removeprefix("```\n").removesuffix("\n```")
    for entity, char in (("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(entity, char)
    return f"<pre>{escape(text)}</pre>" if text else ""


def _say(who: str, message: str) -> str:
    return f'<div class="who">{who} <span>APP 06:04</span></div>{message}'


def _card(colour: str, inside: str) -> str:
    return f'<div class="card" style="--edge:{colour}">{inside}</div>'


def _title(text: str) -> str:
    return f"<h3><a>{escape(text)}</a></h3>"
