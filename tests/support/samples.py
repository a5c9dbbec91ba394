"""Notifications to send in tests."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery_batches_notify.model import BatchStatus, Event, Failure, Notification, Progress

CREATED_AT = datetime(2026, 11, 2, 10, 0, tzinfo=UTC)
BID = "b-Zm9vYmFyYmF6cXV4cXV4"


def failure(**changes: Any) -> Failure:
    values: dict[str, Any] = {
        "task_id": "5b1f4b52-0a7e-4a30-9d6e-2c8f4b1d0e11",
        "task": "proj.tasks.import_row",
        "error_class": "ValueError",
        "error_message": "Something failed",
        "backtrace": 'Traceback (most recent call last):\n  File "tasks.py", line 3, in import_row\n',
        "retries": 0,
        "failed_at": CREATED_AT + timedelta(seconds=30),
    }
    return Failure(**(values | changes))


def progress(succeeded: int, failing: int, dead: int, waiting: int) -> Progress:
    total = succeeded + failing + dead + waiting
    return Progress(
        bid="x" * 22,
        state="running",
        total=total,
        pending=total - succeeded,
        succeeded=succeeded,
        failures=failing + dead,
        dead=dead,
        finished=False,
    )


def status(**changes: Any) -> BatchStatus:
    values: dict[str, Any] = {
        "bid": BID,
        "description": "Import rows",
        "tags": ("customer:42",),
        "state": "success",
        "total": 50,
        "pending": 0,
        "succeeded": 50,
        "failures": 0,
        "dead": 0,
        "created_at": CREATED_AT,
        "sealed_at": CREATED_AT + timedelta(seconds=1),
        "complete_at": CREATED_AT + timedelta(seconds=192),
        "finish_at": CREATED_AT + timedelta(seconds=192),
        "success_at": CREATED_AT + timedelta(seconds=192),
        "expires_at": CREATED_AT + timedelta(days=1),
    }
    return BatchStatus(**(values | changes))


def notification(event: str = Event.SUCCESS, *, url: str | None = None, **changes: Any) -> Notification:
    return Notification(
        id=f"cb_{BID}_{event}_0", event=event, status=status(**changes), url=url or f"https://ops.test/{BID}"
    )


def failing(count: int = 2, *, dead: int = 1, **changes: Any) -> Notification:
    """A batch that is complete, with failed tasks."""
    values: dict[str, Any] = {
        "state": "complete",
        "total": 2 * count,
        "pending": count,
        "succeeded": count,
        "failures": count,
        "dead": dead,
        "finish_at": None,
        "success_at": None,
        "failure_info": tuple(failure(error_message=f"Something failed {i}") for i in range(count)),
    }
    return notification(Event.COMPLETE, **(values | changes))


HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "<a href='https://evil.test'>click</a>",
    "<!channel> <!here> <!everyone> <@U012AB3CD> <#C012AB3CD>",
    "<https://evil.test|Your password has expired>",
    "@channel @here @everyone @all @U012AB3CD",
    "<@123456789012345678> <@&987654321098765432> <#1234>",
    "[click](https://evil.test) ![x](https://evil.test/pixel.png)",
    "[click]: https://evil.test",
    "```\n@everyone\n```",
    "`````` ``` ` ```` @here",
    "&lt;b&gt; &amp; &#60;script&#62;",
    "<at>Everyone</at>",
    "a\r\nBcc: everyone@evil.test\r\n\r\n<b>body</b>",
    "\x1b]0;owned\x07\x1b[31mred\x1b[0m",
    "\u202egnp.exe \u2066hidden\u2069",
    "line one\nline two\u2028line three\x85line four",
    "half a pair \ud83d and NUL \x00 and BOM \ufeff",
    "{{7*7}} ${7*7} %(x)s {0} %s",
    "javascript:alert(1)",
    '{"text": "<!channel>"}',
    "# heading\n* list\n> quote\n| table |",
    "a\uff20everyone",
    "x" * 20_000,
    "&" * 5_000,
    "'" * 5_000,
    "@" * 5_000,
    "`" * 5_000,
    "\U0001d54f🙂" * 2_000,
    "",
    " \t\n ",
)


def hostile(text: str, **changes: Any) -> Notification:
    """The text in every field that people or exceptions fill."""
    bad = failure(task=text, error_class=text, error_message=text, backtrace=text)
    return failing(3, description=text, tags=(text, text), failure_info=(bad, bad, bad), **changes)
