"""Slack, over an incoming webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from celery_batches_notify.notifiers.chat import LINK_TEXT, ChatWebhook
from celery_batches_notify.notifiers.escaping import escape_slack, fit
from celery_batches_notify.notifiers.summary import Summary

LINE_CHARACTERS = 700  # Slack takes 3,000 in a block


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack(ChatWebhook):
    """Write into a Slack channel: `url` is `https://hooks.slack.com/services/…`."""

    name: ClassVar[str] = "slack"

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return a line of text, which push messages show, and a coloured card with the details."""
        return {
            "text": f"*{_link(summary.url, summary.title)}*",
            "unfurl_links": False,
            "unfurl_media": False,
            "attachments": [{"color": summary.verdict.colour, "blocks": _blocks(summary)}],
        }


def _blocks(summary: Summary) -> list[dict[str, Any]]:
    fields = [_text(f"*{name}*\n{escape_slack(value)}") for name, value in summary.facts]
    blocks: list[dict[str, Any]] = [{"type": "section", "fields": fields}]
    if summary.error_lines:
        errors = "\n".join(fit(line, LINE_CHARACTERS, escape_slack) for line in summary.error_lines)
        blocks.append({"type": "section", "text": _text(f"```\n{errors}\n```")})
    if summary.url:
        blocks.append({"type": "context", "elements": [_text(_link(summary.url, LINK_TEXT))]})
    return blocks


def _text(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: @names and addresses stay text


def _link(url: str | None, text: str) -> str:
    label = escape_slack(text)
    return f"<{url.replace('&', '&amp;')}|{label}>" if url else label
