"""The settings of one app: read once, checked once, frozen."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import UTC, timedelta, tzinfo
from typing import Any, Literal
from urllib.parse import urlsplit

from celery import Celery

from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.model import Origin
from celery_batches_notify.setting_names import find_unknown, written_names
from celery_batches_notify.store_url import Source, find_address
from celery_batches_notify.text import one_line

PREFIX = "batches_"
LINGER_AT_LEAST = 30
SECRET_AT_LEAST = 16
LONGEST = timedelta(days=36_500)  # Python cannot read a time after the year 9999
EXPIRES_SWEEPS = 3  # the sweeper renews running batches once per interval, and may move to another worker
NOT_SETTINGS = ("backend_source", "main", "timezone")
AT_LEAST = {
    "batches_linger": LINGER_AT_LEAST,
    "batches_worker_lease": 5,
    "batches_vanished_after": 60,
    "batches_give_up_after": 1,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The `batches_*` settings of the Celery configuration, where durations are seconds or `timedelta`.

    Attributes:
        backend_url: The Redis that holds the batches; for a Cluster or Sentinel several URLs joined by `;`.
        backend_source: The setting that named it.
        backend_options: Arguments for redis-py's client.
        prefix: The start of all keys.
        web_url: The URL of the status page, or None.
        web_secret: What the page's forms and the links of `Batch.share` are signed with, or None.
        name: The system's name in messages; the app's own name if it is not set.
        environment: The environment of this system, such as `staging`, or None.
        notifications: Options per notifier (`"webhook"`) or profile (`"webhook:billing"`).
        notifiers: Names of the user's own notifiers, and the import paths of their classes.
        callback_queue: The queue of callbacks that do not name one, or None.
        callback_tasks: Names of tasks that are accepted as callbacks though this process lacks them.
        give_up_after: How long after its event a callback gets its last attempt.
        expires: How long a batch is kept after it last moved.
        linger: How long a batch is kept after its success and the last delivery.
        dead_expires: How long a batch is kept after it ended with dead members.
        failures_kept: How many failures are kept per batch.
        retry_kept: How many dead members are kept per batch so that they can be sent again.
        report_timeout: How long a worker tries to report an outcome before it writes it to disk.
        spool_dir: The directory for outcomes while the store is away; None: the system's temporary one.
        spool_size: How many bytes these outcomes may take.
        sweep_interval: How often a worker looks for work that was left behind.
        worker_lease: How long a worker may be silent before it counts as lost.
        lost_members: What happens to members that a lost worker was running: `dead`, or `resend`.
        vanished: What happens to members that the broker, the workers and the result backend do not know.
        vanished_after: How long a batch may stand still before it is examined, and between two examinations.
        keep_calls: Whether batches keep their members' calls until the members have succeeded.
        stall_after: How long a batch may stand still before it is `stalled`.
        abandon_after: How long a producer may be silent before it counts as dead.
        main: The app's name, as `celery -A` takes it, or an empty string.
        timezone: The app's time zone, for times in messages.
    """

    backend_url: str = field(repr=False)
    backend_source: Source
    backend_options: Mapping[str, Any] = field(default_factory=dict, repr=False)
    prefix: str = "batches"
    web_url: str | None = None
    web_secret: str | None = field(default=None, repr=False)
    name: str | None = None
    environment: str | None = None
    notifications: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    notifiers: Mapping[str, str] = field(default_factory=dict)
    callback_queue: str | None = None
    callback_tasks: frozenset[str] = frozenset()
    give_up_after: timedelta = timedelta(hours=27)
    expires: timedelta = timedelta(days=30)
    linger: timedelta = timedelta(hours=24)
    dead_expires: timedelta = timedelta(days=180)
    failures_kept: int = 100
    retry_kept: int = 1000
    report_timeout: timedelta = timedelta(seconds=15)
    spool_dir: str | None = None
    spool_size: int = 64 * 1024 * 1024
    sweep_interval: timedelta = timedelta(seconds=10)
    worker_lease: timedelta = timedelta(seconds=20)
    lost_members: Literal["dead", "resend"] = "dead"
    vanished: Literal["leave", "dead", "resend"] = "leave"
    vanished_after: timedelta = timedelta(hours=1)
    keep_calls: bool = False
    stall_after: timedelta = timedelta(hours=24)
    abandon_after: timedelta = timedelta(hours=1)
    main: str = ""
    timezone: tzinfo = UTC

    @classmethod
    def from_app(cls, app: Celery) -> Settings:
        """Read and check the app's configuration.

        Raises:
            ConfigurationError: A setting is wrong, or no Redis can hold the batches.
        """
        if app.conf.task_protocol == 1:
            raise ConfigurationError(
                "task_protocol must be 2, because batches travel in message headers, which protocol 1 lacks"
            )
        written = written_names(app, _known_settings())
        url, source, tls = find_address(app.conf, written)
        given = {f.name: app.conf.get(PREFIX + f.name) for f in fields(cls)}
        given["backend_options"] = {**tls, **(given["backend_options"] or {})}
        read = {
            n: reader(written[PREFIX + n], given[n]) for n, reader in _READERS.items() if given[n] is not None
        }
        main = app.main if app.main and app.main != "__main__" else ""
        own = {"backend_url": url, "backend_source": source, "main": main, "timezone": app.timezone}
        settings = cls(**own, **read)  # type: ignore[arg-type]
        if settings.expires.total_seconds() < settings.expires_at_least:
            raise ConfigurationError(
                f"batches_expires must be at least {EXPIRES_SWEEPS} times batches_sweep_interval, "
                f"{settings.expires_at_least:g} s, got {settings.expires.total_seconds():g} s"
            )
        return settings

    @property
    def origin(self) -> Origin:
        """The system that notifications come from."""
        name, environment = self.name or self.main, self.environment or ""
        return Origin(name=name, environment=environment, app=self.main, timezone=self.timezone)

    @property
    def expires_at_least(self) -> float:
        """How many seconds a batch must be kept so that the sweeper renews it in time."""
        return EXPIRES_SWEEPS * self.sweep_interval.total_seconds()

    @property
    def address_source(self) -> str:
        """The setting that the store's address comes from, in the words of an error message."""
        if self.backend_source == "batches_backend_url":
            return self.backend_source
        return f"from {self.backend_source}, because batches_backend_url is not set"

    def page_of(self, bid: str) -> str | None:
        """Return the URL of the batch's page, or None without `batches_web_url`."""
        return f"{self.web_url.rstrip('/')}/{bid}" if self.web_url else None


def find_unknown_settings(app: Celery) -> list[str]:
    """Return the `batches_*` settings that do not exist, each with a suggestion."""
    return find_unknown(app, _known_settings(), PREFIX)


def _known_settings() -> list[str]:
    return [PREFIX + f.name for f in fields(Settings) if f.name not in NOT_SETTINGS]


def read_duration(name: str, value: object, *, at_least: float = 0) -> timedelta:
    """Read a duration: a number of seconds, or a `timedelta`.

    Raises:
        ConfigurationError: It is neither, under `at_least` seconds, or over a hundred years.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        try:
            value = timedelta(seconds=value)
        except (OverflowError, ValueError):
            raise ConfigurationError(f"{name} must be a finite number of seconds, got {value!r}") from None
    if not isinstance(value, timedelta):
        raise ConfigurationError(f"{name} must be a number of seconds or a timedelta, got {value!r}")
    seconds = value.total_seconds()
    if seconds <= 0:
        raise ConfigurationError(f"{name} must be a positive duration, got {seconds:g} s")
    if seconds < at_least:
        raise ConfigurationError(f"{name} must be at least {at_least:g} s, got {seconds:g} s")
    if value > LONGEST:
        raise ConfigurationError(f"{name} must be at most {LONGEST.days:,} days, got {value.days:,} days")
    return value


def _duration(name: str, value: object) -> timedelta:
    return read_duration(name, value, at_least=AT_LEAST.get(name, 0))


def _text(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise ConfigurationError(f"{name} must be a non-empty string, got {value!r}")


def _secret(name: str, value: object) -> str:
    if isinstance(value, str) and len(value) >= SECRET_AT_LEAST:
        return value
    raise ConfigurationError(f"{name} must be a string of at least {SECRET_AT_LEAST} characters")


def _line(name: str, value: object) -> str:
    if isinstance(value, str) and len(value) <= 100 and value == one_line(value, 100):
        return value
    raise ConfigurationError(f"{name} must be a string of at most 100 characters on one line, got {value!r}")


def _key_prefix(name: str, value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[\w.:-]{1,100}", value):
        return value
    raise ConfigurationError(f"{name} must be 1 to 100 letters, digits and . : _ -, got {value!r}")


def _web_url(name: str, value: object) -> str:
    if isinstance(value, str) and urlsplit(value).scheme in ("http", "https") and urlsplit(value).hostname:
        return value
    raise ConfigurationError(f"{name} must be the http:// or https:// URL of the status page")


def _count(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= 100_000:
        return value
    raise ConfigurationError(f"{name} must be an integer from 0 to 100,000, got {value!r}")


def _directory(name: str, value: object) -> str:
    path = os.fspath(value) if isinstance(value, os.PathLike) else value
    if isinstance(path, str) and os.path.isabs(path):
        return path
    raise ConfigurationError(f"{name} must be the absolute path of a directory, got {value!r}")


def _bytes(name: str, value: object) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return value
    raise ConfigurationError(f"{name} must be a number of bytes from 0 on, got {value!r}")


def _mapping(name: str, value: object) -> dict[str, Any]:
    if isinstance(value, Mapping) and all(isinstance(key, str) for key in value):
        return dict(value)
    raise ConfigurationError(f"{name} must be a mapping whose keys are strings, got {type(value).__name__}")


def _profiles(name: str, value: object) -> dict[str, dict[str, Any]]:
    return {key: _mapping(f"{name}[{key!r}]", options) for key, options in _mapping(name, value).items()}


def _names(name: str, value: object) -> frozenset[str]:
    if isinstance(value, (list, tuple, set, frozenset)) and all(isinstance(item, str) for item in value):
        return frozenset(value)
    raise ConfigurationError(f"{name} must be a list of task names, got {value!r}")


def _word(*words: str) -> Callable[[str, object], str]:
    """Return a reader for a setting that is one of these words."""

    def read(name: str, value: object) -> str:
        if value in words:
            return str(value)
        listed = ", ".join(f'"{word}"' for word in words[:-1])
        raise ConfigurationError(f'{name} must be {listed} or "{words[-1]}", got {value!r}')

    return read


def read_flag(name: str, value: object) -> bool:
    """Read a setting that is True or False. Raises `ConfigurationError`."""
    if isinstance(value, bool):
        return value
    raise ConfigurationError(f"{name} must be True or False, got {value!r}")


_READERS = {
    "backend_options": _mapping,
    "prefix": _key_prefix,
    "web_url": _web_url,
    "web_secret": _secret,
    "name": _line,
    "environment": _line,
    "notifications": _profiles,
    "notifiers": _mapping,
    "callback_queue": _text,
    "callback_tasks": _names,
    "give_up_after": _duration,
    "expires": _duration,
    "linger": _duration,
    "dead_expires": _duration,
    "failures_kept": _count,
    "retry_kept": _count,
    "report_timeout": _duration,
    "spool_dir": _directory,
    "spool_size": _bytes,
    "sweep_interval": _duration,
    "worker_lease": _duration,
    "lost_members": _word("dead", "resend"),
    "vanished": _word("leave", "dead", "resend"),
    "vanished_after": _duration,
    "keep_calls": read_flag,
    "stall_after": _duration,
    "abandon_after": _duration,
}
