"""What Slack is sent, within its limits."""

from __future__ import annotations

from typing import Any

import pytest
import samples

from celery_batches_notify.notifiers.slack import Slack
from celery_batches_notify.notifiers.summary import summarise

SLACK = Slack(url="https://hooks.slack.com/services/T0/B0/x")


def render(notification: Any) -> dict[str, Any]:
    return SLACK.render(summarise(notification))


def test_the_whole_message_reads_like_this() -> None:
    assert render(samples.failing(5, description="Rows <new> & old")) == {
        "text": f"*<https://ops.test/{samples.BID}|Rows &lt;new&gt; &amp; old is complete>*",
        "unfurl_links": False,
        "unfurl_media": False,
        "attachments": [
            {
                "color": "#cf222e",
                "blocks": [
                    {
                        "type": "section",
                        "fields": [
                            text("*Tasks*\n5 of 10 succeeded"),
                            text("*Failed*\n4 to be retried, 1 for good"),
                            text("*Took*\n3 min 12 s"),
                            text("*Tags*\ncustomer:42"),
                        ],
                    },
                    {
                        "type": "section",
                        "text": text(
                            "```\n"
                            "ValueError: Something failed 0 (proj.tasks.import_row)\n"
                            "ValueError: Something failed 1 (proj.tasks.import_row)\n"
                            "ValueError: Something failed 2 (proj.tasks.import_row)\n"
                            "… and 2 more\n"
                            "```"
                        ),
                    },
                    {
                        "type": "context",
                        "elements": [text(f"<https://ops.test/{samples.BID}|Open the batch>")],
                    },
                ],
            }
        ],
    }


def text(content: str) -> dict[str, Any]:
    return {"type": "mrkdwn", "text": content, "verbatim": True}


def test_a_success_has_neither_errors_nor_a_link_where_there_is_no_page() -> None:
    message = render(samples.notification(url="none"))
    assert message["text"] == "*Import rows succeeded*"
    assert message["attachments"][0]["color"] == "#1a7f37"
    assert [block["type"] for block in message["attachments"][0]["blocks"]] == ["section"]


@pytest.mark.parametrize("hostile", samples.HOSTILE)
def test_no_text_makes_slack_refuse_the_message(hostile: str) -> None:
    message = render(samples.hostile(hostile))
    assert len(message["text"]) < 4_000
    blocks = message["attachments"][0]["blocks"]
    assert len(blocks) <= 50
    assert len(blocks[0]["fields"]) <= 10
    for block in blocks:
        assert all(1 <= len(field["text"]) <= 2_000 for field in block.get("fields", []))
        assert 1 <= len(block.get("text", {"text": "x"})["text"]) <= 3_000
