"""Messages to Microsoft Teams."""

from __future__ import annotations

import json

import pytest

from celery_batches_notify.notifiers.chat.teams import Teams
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples

TEAMS = Teams(url="https://prod-1.westeurope.logic.azure.com/workflows/x?sig=y")


def test_the_whole_message_reads_like_this() -> None:
    assert TEAMS.render(summarise(samples.failing(1, dead=0, tags=()))) == {
        "type": "message",
        "attachments": [
            {
                "contentType": "application/vnd.microsoft.card.adaptive",
                "contentUrl": None,
                "content": {
                    "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
                    "type": "AdaptiveCard",
                    "version": "1.4",
                    "msteams": {"width": "Full"},
                    "fallbackText": "⚠ 1 of 2 failed and will be retried: Import rows",
                    "body": [
                        {
                            "type": "TextBlock",
                            "style": "heading",
                            "text": "⚠ 1 of 2 failed and will be retried: Import rows",
                            "size": "Large",
                            "weight": "Bolder",
                            "color": "Warning",
                            "wrap": True,
                        },
                        {
                            "type": "FactSet",
                            "facts": [
                                {"title": "Succeeded", "value": "1 of 2"},
                                {"title": "Will be retried", "value": "1"},
                                {"title": "Took", "value": "3 min 12 s"},
                            ],
                        },
                        {
                            "type": "RichTextBlock",
                            "inlines": [
                                {
                                    "type": "TextRun",
                                    "text": "ValueError in import_row: Something failed 0",
                                    "fontType": "Monospace",
                                }
                            ],
                        },
                    ],
                    "actions": [
                        {
                            "type": "Action.OpenUrl",
                            "title": "Open the batch",
                            "url": f"https://ops.test/{samples.BID}#why",
                        }
                    ],
                },
            }
        ],
    }


@pytest.mark.parametrize("text", samples.HOSTILE)
def test_no_text_makes_the_card_too_large(text: str) -> None:
    assert len(json.dumps(TEAMS.render(summarise(samples.hostile(text))))) < 28_000


def test_without_a_page_there_is_no_button() -> None:
    message = TEAMS.render(summarise(samples.notification(url="none")))
    assert "actions" not in message["attachments"][0]["content"]
