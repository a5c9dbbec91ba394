"""Channels that notify people about a batch. Each is imported on first use."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from celery_batches_notify.notifiers.chat.apprise import Apprise as Apprise
    from celery_batches_notify.notifiers.chat.campfire import Campfire as Campfire
    from celery_batches_notify.notifiers.chat.discord import Discord as Discord
    from celery_batches_notify.notifiers.chat.hipchat import HipChat as HipChat
    from celery_batches_notify.notifiers.chat.slack import Slack as Slack
    from celery_batches_notify.notifiers.chat.slack_compatible import Mattermost as Mattermost
    from celery_batches_notify.notifiers.chat.slack_compatible import RocketChat as RocketChat
    from celery_batches_notify.notifiers.chat.teams import Teams as Teams
    from celery_batches_notify.notifiers.email import Email as Email
    from celery_batches_notify.notifiers.webhook import Webhook as Webhook

_MODULES = {
    "Apprise": "chat.apprise",
    "Campfire": "chat.campfire",
    "Discord": "chat.discord",
    "Email": "email",
    "HipChat": "chat.hipchat",
    "Mattermost": "chat.slack_compatible",
    "RocketChat": "chat.slack_compatible",
    "Slack": "chat.slack",
    "Teams": "chat.teams",
    "Webhook": "webhook",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_MODULES)
