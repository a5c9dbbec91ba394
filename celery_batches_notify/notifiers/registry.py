"""Find notifier classes by their names in the configuration."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from datetime import timedelta
from importlib.metadata import entry_points
from typing import Any

from kombu.utils.imports import symbol_by_name

from celery_batches_notify import notifiers
from celery_batches_notify.errors import InvalidCallback
from celery_batches_notify.notifiers.base import Notifier, build_notifier, merge_options, refuse_secrets
from celery_batches_notify.settings import Settings, read_duration
from celery_batches_notify.spelling import did_you_mean

GIVE_UP_AFTER = "give_up_after"  # a notifier may have an option of this name itself
GROUP = "celery_batches_notify.notifiers"
BUILT_IN = {name.lower(): f"{notifiers.__name__}:{name}" for name in dir(notifiers)}


class Registry:
    """The notifiers of an app: those of its settings, installed ones, and those of this package."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def name_of(self, target: type[Notifier] | str) -> str:
        """Return the stored name of a callback's target.

        Raises:
            InvalidCallback: It is not a notifier, or the name or profile is unknown.
        """
        if isinstance(target, str):
            self._find(target)
            return target
        name = getattr(target, "name", None)
        if not isinstance(name, str) or not callable(getattr(target, "send", None)):
            raise InvalidCallback(
                f"on() takes a signature, a notifier's class or its name, got {type(target).__name__}; "
                "a notifier has a name and a send method"
            )
        if not isinstance(target, type):
            raise InvalidCallback(
                f"on() takes a notifier's class and its options, got a {type(target).__name__} object: write "
                f"on(event, {type(target).__name__}, option=…)"
            )
        if self._find(name) is not target:
            raise InvalidCallback(
                f"{target.__qualname__} is not the notifier that workers know as {name!r}: register it with "
                f'batches_notifiers = {{"{name}": "{target.__module__}.{target.__qualname__}"}}'
            )
        return name

    def check(self, name: str, own: Mapping[str, Any]) -> None:
        """Check a callback's own options together with the configured ones.

        Raises:
            InvalidCallback: Its own options hold a secret.
            ConfigurationError: An option is unknown, missing or wrong.
        """
        kind = self._find(name)
        refuse_secrets(kind, own)
        build_notifier(kind, self._configured(name), own, reveal=False, name=name)

    def build(self, name: str, own: Mapping[str, Any], *, stored: bool = True) -> Notifier:
        """Make the notifier that sends.

        Args:
            name: Its name or profile.
            own: The callback's own options.
            stored: Whether these come from the store. If so, they cannot set secret options, such as a
                program to run, because others may have written them.

        Raises:
            InvalidCallback: Stored options hold a secret.
            ConfigurationError: An option is wrong, or an environment variable is missing.
        """
        kind = self._find(name)
        if stored:
            refuse_secrets(kind, own)
        return build_notifier(kind, self._configured(name), own, stored=stored, name=name)

    def options_of(self, name: str, own: Mapping[str, Any]) -> dict[str, Any]:
        """Return a notifier's options, with `env:NAME` references unread. Raises as `name_of` does."""
        return merge_options(self._find(name), self._configured(name), own)

    def has_option(self, name: str, option: str) -> bool:
        """Return whether a notifier has an option of this name."""
        return option in {field.name for field in fields(self._find(name))}  # type: ignore[arg-type]

    def limit_of(self, name: str) -> timedelta | None:
        """Return the profile's `give_up_after`: the time from the event to the last attempt, or None.

        Raises:
            ConfigurationError: It is not a duration.
        """
        given = self._settings.notifications.get(name, {}).get(GIVE_UP_AFTER)
        if given is None or self.has_option(name, GIVE_UP_AFTER):
            return None
        return read_duration(f"batches_notifications[{name!r}][{GIVE_UP_AFTER!r}]", given, at_least=1)

    def channels(self) -> list[str]:
        """Return the names of all notifiers and profiles that a callback may name."""
        return sorted({*self._known(), *self._settings.notifications})

    def find_unknown_keys(self) -> list[str]:
        """Return the keys of `batches_notifications` without a notifier, each with a suggestion."""
        kinds = {key: key.partition(":")[0] for key in sorted(self._settings.notifications)}
        if BUILT_IN.keys() >= set(kinds.values()):
            return []  # without reading the metadata of all installed packages
        known = self._known()
        return [f"{key!r}{did_you_mean(kind, known)}" for key, kind in kinds.items() if kind not in known]

    def _configured(self, name: str) -> Mapping[str, Any]:
        """Return a profile's options for its notifier, without those about its deliveries."""
        options = self._settings.notifications.get(name, {})
        if GIVE_UP_AFTER not in options or self.has_option(name, GIVE_UP_AFTER):
            return options
        return {option: value for option, value in options.items() if option != GIVE_UP_AFTER}

    def _find(self, name: str) -> type[Notifier]:
        kind, _, profile = name.partition(":")
        known = self._known()
        if kind not in known:
            raise InvalidCallback(
                f"there is no notifier {kind!r}{did_you_mean(kind, known)}; there are "
                f"{', '.join(sorted(known))}, and others can be registered with batches_notifiers"
            )
        profiles = self._settings.notifications
        if profile and name not in profiles:
            hint = did_you_mean(name, profiles, cutoff=0.8)
            raise InvalidCallback(f"there is no profile {name!r}{hint}: describe it in batches_notifications")
        return symbol_by_name(known[kind])  # type: ignore[no-any-return]

    def _known(self) -> dict[str, str]:
        installed = {entry.name: entry.value for entry in entry_points(group=GROUP)}
        return {**BUILT_IN, **installed, **self._settings.notifiers}
