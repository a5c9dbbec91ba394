"""Keeps secrets among our settings out of Celery's own reports.

`celery report` and `celery inspect conf` mask values by the names of their keys. But the address of a chat is
a secret named `url`, and any header may hold a token. So these settings are shown without a single string.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import Celery

from celery_batches_notify.store_url import show_address

ENV = "env:"
MASK = "********"  # Celery's own
URL = "batches_backend_url"
MAY_HOLD_SECRETS = ("batches_notifications", "batches_backend_options")
_SHOWN = (bool, int, float, timedelta, type(None))


def keep_secrets_out_of_reports(app: Celery) -> None:
    """Mask our settings in every report of the app's configuration, also after it is read anew."""
    mask_table(app.conf)
    app.on_after_configure.connect(
        on_after_configure, weak=False, dispatch_uid="celery_batches_notify.masking"
    )


def on_after_configure(source: Any, **_: Any) -> None:
    """Mask the settings of the new configuration object."""
    mask_table(source)


def mask_table(conf: Any) -> None:
    """Wrap the method that Celery makes both reports with. Safe to repeat."""
    if "table" in vars(conf):
        return
    table = conf.table

    def masked_table(with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        settings: dict[str, Any] = table(with_defaults, censored)
        return {key: mask_setting(key, value) for key, value in settings.items()} if censored else settings

    vars(conf)["table"] = masked_table  # an attribute would become a setting


def mask_setting(key: str, value: object) -> object:
    """Return the value that a report may show of a setting, whose name may have a namespace in front."""
    name = key.lower()
    if name.endswith(MAY_HOLD_SECRETS):
        return _mask(value)
    if name.endswith(URL) and isinstance(value, str):
        return show_address(value)
    return value


def _mask(value: object) -> object:
    if isinstance(value, Mapping):
        return {key: _mask(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_mask(inner) for inner in value]
    if isinstance(value, _SHOWN) or (isinstance(value, str) and value.startswith(ENV)):
        return value
    return MASK
