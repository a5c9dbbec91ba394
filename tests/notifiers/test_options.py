"""The checks of options that the notifiers' own tests do not reach."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from celery_batches_notify.notifiers import options
from celery_batches_notify.notifiers.references import Reference

GOOD_URLS = [
    "https://example.com",
    "http://localhost:8080/x?y=z#w",
    "https://[::1]:8443/",
    "HTTPS://EXAMPLE.COM/",
    "https://bücher.example/",
    Reference("env:HOOK_URL"),
]


@pytest.mark.parametrize("url", GOOD_URLS)
def test_these_are_urls(url: str) -> None:
    options.check_url("url", url)


@pytest.mark.parametrize("value", [0.1, 15, 300, timedelta(seconds=15)])
def test_these_are_time_limits(value: Any) -> None:
    options.check_seconds("timeout", value)
    assert 0 < options.to_seconds(value) <= 300


@pytest.mark.parametrize("value", [0, -1, 301, True, "15", None, float("inf"), float("nan"), timedelta(0)])
def test_these_are_no_time_limits(value: Any) -> None:
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        options.check_seconds("timeout", value)


@pytest.mark.parametrize("value", [1, 111111, "111111", "Ops room", "Büro"])
def test_these_are_rooms(value: Any) -> None:
    options.check_room("roomid", value)


@pytest.mark.parametrize(
    "value", [0, -1, True, None, 1.5, "", ".", "..", "a/b", "a?b", "a#b", "a\nb", "x" * 101]
)
def test_these_are_no_rooms(value: Any) -> None:
    with pytest.raises(ValueError, match="roomid must be the room's number or name"):
        options.check_room("roomid", value)


@pytest.mark.parametrize("value", ["", "a\nb", "a\x00", 42, None, b"x"])
def test_these_are_not_strings_on_one_line(value: Any) -> None:
    with pytest.raises(ValueError, match="token must be a string on one line"):
        options.check_text("token", value)


def test_a_missing_extra_is_named_with_its_command() -> None:
    options.check_extra("x", "ssrf", "requests")
    with pytest.raises(ValueError, match=r"^x needs an extra: pip install 'celery-batches-notify\[nope\]'$"):
        options.check_extra("x", "nope", "no_such_module_anywhere")
