"""Microsoft Teams, over a Workflows webhook."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from celery_batches_notify.headline import Verdict
from celery_batches_notify.notifiers.chat.base import LINK_TEXT, ChatWebhook
from celery_batches_notify.notifiers.escaping import soften
from celery_batches_notify.notifiers.summary import Summary

# Adaptive Cards take names of colours, which follow the reader's theme, instead of hex values.
_COLOURS = {
    Verdict.SUCCEEDED: "Good",
    Verdict.RUNNING: "Accent",
    Verdict.FAILING: "Warning",
    Verdict.DEAD: "Attention",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Teams(ChatWebhook):
    """Write into a Teams channel or chat.

    The workflow “Post to a channel when a webhook request is received” shows the `url`.
    """

    name: ClassVar[str] = "teams"

    def render(self, summary: Summary) -> dict[str, Any]:
        """Return one Adaptive Card."""
        card = {
            "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
            "type": "AdaptiveCard",
            "version": "1.4",
            "msteams": {"width": "Full"},
            "fallbackText": soften(summary.headline),
            "body": _body(summary),
        }
        if summary.url:
            card["actions"] = [{"type": "Action.OpenUrl", "title": LINK_TEXT, "url": summary.url}]
        attachment = {
            "contentType": "application/vnd.microsoft.card.adaptive",
            "contentUrl": None,
            "content": card,
        }
        return {"type": "message", "attachments": [attachment]}


def _body(summary: Summary) -> list[dict[str, Any]]:
    title = {
        "type": "TextBlock",
        "style": "heading",
        "text": soften(summary.headline),
        "size": "Large",
        "weight": "Bolder",
        "color": _COLOURS[summary.verdict],
        "wrap": True,
    }
    facts = {
        "type": "FactSet",
        "facts": [{"title": name, "value": soften(value)} for name, value in summary.facts],
    }
    # Text runs, unlike text blocks, are not Markdown.
    lines = [
        {"type": "RichTextBlock", "inlines": [{"type": "TextRun", "text": line, "fontType": "Monospace"}]}
        for line in filter(None, (*summary.error_lines, summary.next_step))
    ]
    return [title, facts, *lines]
