"""The how-to about email: its examples are run, and its pictures are there."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.notifiers.base import build_notifier
from celery_batches_notify.notifiers.email import Email
from celery_batches_notify.notifiers.mailer import Letter
from celery_batches_notify.notifiers.mailer.options import SmtpOptions
from celery_batches_notify.notifiers.templates import FIELDS

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "email.md"
EXAMPLES = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.DOTALL)


@pytest.mark.parametrize("example", [text for text in EXAMPLES if "batches_notifications" in text])
def test_each_configuration_makes_a_notifier(example: str) -> None:
    found: dict[str, Any] = {}
    exec(example, found)

    for options in found["batches_notifications"].values():
        assert build_notifier(Email, options, reveal=False)  # type: ignore[type-abstract]


@pytest.mark.parametrize("example", [text for text in EXAMPLES if "mailer" in text])
def test_each_call_of_the_mailer_works_as_the_page_says(outbox: list[Letter], example: str) -> None:
    exec(example, {})

    assert len(outbox) == 1


def test_every_option_and_every_default_is_explained() -> None:
    page = PAGE.read_text()

    for option in dataclasses.fields(Email):
        assert f"`{option.name}`" in page
    for option in dataclasses.fields(SmtpOptions):
        assert f"`{option.name}`" in page or option.name == "starttls"
        assert str(option.default).removesuffix(".0") in page or option.default is None


def test_every_field_is_explained() -> None:
    assert all(f"`{name}`" in PAGE.read_text() for name in FIELDS)


def test_every_picture_of_a_mail_is_shown_there_and_small() -> None:
    pictures = re.findall(r"\]\((\.\./images/[^)]+)\)", PAGE.read_text())

    assert set(pictures) == {f"../images/{path.name}" for path in PAGE.parents[1].glob("images/email-*.png")}
    assert all((PAGE.parent / picture).stat().st_size < 80_000 for picture in pictures)
