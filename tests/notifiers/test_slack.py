"""Messages to Slack, within its limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from celery_batches_notify.model import Origin
from celery_batches_notify.notifiers.chat.slack import Slack
from celery_batches_notify.notifiers.summary import summarise
from tests.support import samples

SLACK = Slack(url="https://hooks.slack.com/services/T0/B0/x")


def render(notification: Any) -> dict[str, Any]:
    return SLACK.render(summarise(notification))


def test_the_whole_message_reads_like_this() -> None:
    headline = "✗ 1 of 10 failed for good, 4 will be retried: Rows <new> & old"
    assert render(samples.failing(5, description="Rows <new> & old")) == {
        "text": "✗ 1 of 10 failed for good, 4 will be retried: Rows &lt;new&gt; &amp; old",
        "unfurl_links": False,
        "unfurl_media": False,
        "blocks": [{"type": "header", "text": plain(headline)}],
        "attachments": [
            {
                "color": "#cf222e",
                "blocks": [
                    {
                        "type": "section",
                        "fields": [
                            plain("Succeeded\n5 of 10"),
                            plain("Failed for good\n1"),
                            plain("Will be retried\n4"),
                            plain("Took\n3 min 12 s"),
                            plain("Tags\ncustomer:42"),
                        ],
                    },
                    {
                        "type": "section",
                        "text": markdown("```\n5 × ValueError in import_row: Something failed 0\n```"),
                    },
                    {
                        "type": "context",
                        "elements": [markdown(f"<https://ops.test/{samples.BID}#failures|Open the batch>")],
                    },
                ],
            }
        ],
    }


def plain(content: str) -> dict[str, Any]:
    return {"type": "plain_text", "text": content, "emoji": False}


def markdown(content: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": content, "verbatim": True}


def test_a_success_has_neither_errors_nor_a_link_where_there_is_no_page() -> None:
    message = render(samples.notification(url="none"))
    assert message["text"] == "✓ All 50 succeeded: Import rows"
    assert message["attachments"][0]["color"] == "#1a7f37"
    assert [block["type"] for block in message["attachments"][0]["blocks"]] == ["section"]


def test_where_there_is_no_page_the_command_that_says_more_is_there() -> None:
    message = render(replace(samples.failing(), url=None, origin=Origin(app="proj")))
    (command,) = message["attachments"][0]["blocks"][-1]["elements"]
    assert command == markdown(f"`celery -A proj batch doctor {samples.BID}`")


@pytest.mark.parametrize("hostile", samples.HOSTILE)
def test_no_text_makes_slack_refuse_the_message(hostile: str) -> None:
    message = render(samples.hostile(hostile))
    assert len(message["text"]) < 4_000
    assert len(message["blocks"][0]["text"]["text"]) <= 150
    blocks = message["attachments"][0]["blocks"]
    assert len(blocks) <= 50
    assert len(blocks[0]["fields"]) <= 10
    for block in blocks:
        assert all(1 <= len(field["text"]) <= 2_000 for field in block.get("fields", []))
        assert 1 <= len(block.get("text", {"text": "x"})["text"]) <= 3_000
