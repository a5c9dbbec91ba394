"""Slack, over an incoming webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from celery_batches_notify.notifiers.chat.base import LINK_TEXT, ChatWebhook
from celery_batches_notify.notifiers.escaping import escape_slack, fence, fit
from celery_batches_notify.notifiers.summary import Summary
from celery_batches_notify.text import one_line

LINE_CHARACTERS = 700  # Slack takes 3,000 in a block
HEADER_CHARACTERS = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Slack(ChatWebhook):
    """Write into a Slack channel: `url` is `https://hooks.slack.com/services/…`."""

    name: ClassVar[str] = "slack"

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return a headline, which push messages show, and a coloured card with the details."""
        return {
            "text": escape_slack(summary.headline),
            "unfurl_links": False,
            "unfurl_media": False,
            "blocks": [{"type": "header", "text": _plain(one_line(summary.headline, HEADER_CHARACTERS))}],
            "attachments": [{"color": summary.verdict.colour, "blocks": _blocks(summary)}],
        }


def _blocks(summary: Summary) -> list[dict[str, Any]]:
    fields = [_plain(f"{name}\n{value}") for name, value in summary.facts]
    blocks: list[dict[str, Any]] = [{"type": "section", "fields": fields}]
    if lines := tuple(fit(line, LINE_CHARACTERS, escape_slack) for line in summary.error_lines):
        blocks.append({"type": "section", "text": _markdown(fence(lines))})
    if summary.next_step:
        blocks.append({"type": "context", "elements": [_markdown(f"`{escape_slack(summary.next_step)}`")]})
    if summary.url:
        link = f"<{escape_slack(summary.url)}|{LINK_TEXT}>"
        blocks.append({"type": "context", "elements": [_markdown(link)]})
    return blocks


def _plain(text: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": text, "emoji": False}  # without emoji, Slack shows it unchanged


def _markdown(text: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": text, "verbatim": True}  # verbatim: @names and addresses stay text
