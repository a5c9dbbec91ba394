"""What Celery's own reports tell of our settings: their names, and nothing that may be a secret.

`celery report` and `celery inspect conf` mask by the name of a key. A chat's address is a secret by the name
of `url`, and a token may be in any header: so of what may hold one, no text is shown at all.
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
    """Mask our settings wherever the app's configuration is reported, now and when it was read anew."""
    mask_table(app.conf)
    app.on_after_configure.connect(
        on_after_configure, weak=False, dispatch_uid="celery_batches_notify.masking"
    )


def on_after_configure(source: Any, **_: Any) -> None:
    """There may be another object for the configuration than before."""
    mask_table(source)


def mask_table(conf: Any) -> None:
    """Put ours before the method from which Celery makes both reports. Again is harmless."""
    if "table" in vars(conf):
        return
    table = conf.table

    def masked_table(with_defaults: bool = False, censored: bool = True) -> dict[str, Any]:
        settings: dict[str, Any] = table(with_defaults, censored)
        return {key: mask_setting(key, value) for key, value in settings.items()} if censored else settings

    vars(conf)["table"] = masked_table  # to set it as an attribute would make it a setting


def mask_setting(key: str, value: object) -> object:
    """Return what a report may show of a setting, which may have a namespace before its name."""
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
