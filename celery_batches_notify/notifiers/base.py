"""The `Notifier` protocol: a small class with one method, whose fields are its options."""

from __future__ import annotations

import dataclasses
import keyword
from asyncio import CancelledError
from collections.abc import Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable
from urllib.parse import SplitResult, urlsplit

from celery_batches_notify.errors import ConfigurationError, InvalidCallback, NotificationFailed
from celery_batches_notify.model import Notification
from celery_batches_notify.notifiers.redaction import hide_environment, hide_secrets, repeats_environment
from celery_batches_notify.notifiers.references import (
    ENV,
    is_reference,
    mark_references,
    read_references,
    texts_in,
)
from celery_batches_notify.spelling import did_you_mean


class Reply(str):
    """A receiver's answer in a few words, with a status code if its protocol has one."""

    status_code: int | None

    def __new__(cls, text: str, status_code: int | None = None) -> Reply:
        """Make a reply."""
        reply = super().__new__(cls, text)
        reply.status_code = status_code
        return reply


class NotifierBroke(NotificationFailed):
    """A notifier raised an error other than `NotificationFailed`."""


@runtime_checkable
class Notifier(Protocol):
    """A channel. Write one as a frozen dataclass whose fields are its options.

    Attributes:
        name: Its name in `batches_notifications` and in `on("complete", "name")`.
        secrets: Options that hold a secret, with a dot before a key of a nested mapping
            (`via_options.password`). The configuration may hold them, `on()` refuses them.
        credentials: Options that belong to the origin of the configured `url`. If `on()` gives a url
            on another origin, they are left out. A mapping among them is replaced as a whole.

    A class may have a `receiver`: a text that names the part that fails as a whole, such as a server and a
    room, if its `url` does not. People see only scheme, host and port of either.
    """

    name: ClassVar[str]
    secrets: ClassVar[frozenset[str]]
    credentials: ClassVar[frozenset[str]]

    def send(self, notification: Notification) -> str:
        """Send once, within a bounded time, and return the receiver's answer in a few words.

        Return a `Reply` to put its status code into the delivery log.

        Raises:
            NotificationFailed: It did not arrive; the error says whether and when to try again.
        """
        ...


def merge_options(
    kind: type[Notifier], configured: Mapping[str, Any], own: Mapping[str, Any], *, stored: bool = True
) -> dict[str, Any]:
    """Put a callback's own options over the configured ones.

    Nested mappings are merged too, unless they hold credentials, which stay with their server. The
    configuration may use `env:NAME` anywhere, stored options only in place of a secret.
    """
    kept: dict[str, Any] = mark_references(_as_fields(configured))
    # safety: stored-text
    own = _mark_secrets(kind, _as_fields(own)) if stored else mark_references(_as_fields(own))
    if "url" in own and _origin(own["url"]) != _origin(configured.get("url")):
        kept = {k: v for k, v in kept.items() if k not in kind.credentials}
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(kept.get(key), Mapping)
        both = both and key not in kind.credentials
        kept[key] = {**kept[key], **value} if both else value
    return kept


def build_notifier(
    kind: type[Notifier],
    configured: Mapping[str, Any],
    own: Mapping[str, Any] | None = None,
    *,
    stored: bool = True,
    reveal: bool = True,
    name: str | None = None,
) -> Notifier:
    """Make the notifier that these options describe, and read its `env:NAME` references.

    Args:
        kind: The notifier's class.
        configured: Its options in the configuration.
        own: A callback's own options, which override the configured ones.
        stored: Whether the own options come from the store, or are about to go there.
        reveal: False leaves `env:NAME` references as they are, because only the process that sends needs
            the secrets.
        name: Its key in `batches_notifications`; by default the class's own name.

    Raises:
        ConfigurationError: An option is unknown, missing or wrong, or its variable is not set.
    """
    options = merge_options(kind, configured, own or {}, stored=stored)
    fields = [f for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    known = [f.name for f in fields]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigurationError(
            f"{kind.name}: there is no option {unknown[0]!r}{did_you_mean(unknown[0], known)}; its options "
            f"are {', '.join(known)}"
        )
    if missing := [f.name for f in fields if f.name not in options and _is_required(f)]:
        raise ConfigurationError(_explain_missing(kind, name or kind.name, missing[0]))
    values = {k: read_references(f"{kind.name}: {k}", v) for k, v in options.items()} if reveal else options
    try:
        return kind(**values)
    except Exception as exc:  # noqa: BLE001 -- a notifier of the user's may raise anything
        raise ConfigurationError(f"{kind.name}: {_explain(kind, options, values, exc)}") from None


def send_once(notifier: Notifier, notification: Notification) -> Reply:
    """Let a notifier send. Neither its reply nor its error shows a secret or a value of the environment.

    Raises:
        NotificationFailed: It did not arrive.
        NotifierBroke: The notifier raised another error, its library's or a bug's.
    """
    try:
        said = notifier.send(notification)
    except NotificationFailed as exc:
        exc.args = (hide_environment(notifier, str(exc)),)
        raise
    except (Exception, CancelledError) as exc:  # safety: notifier-cancelled
        message = hide_secrets(notifier, hide_environment(notifier, str(exc)))
        raise NotifierBroke(f"{type(exc).__name__} in the notifier: {message}") from exc
    # safety: any-reply
    return Reply(hide_environment(notifier, str(said)), getattr(said, "status_code", None))


def refuse_secrets(kind: type[Notifier], own: Mapping[str, Any]) -> None:
    """Raise `InvalidCallback` if options for `on()` hold a secret, or an option in `configured_only`.

    The store keeps the options of `on()`.
    """
    for path in sorted(getattr(kind, "configured_only", ())):  # safety: configured-only
        if _find(own, path) is not None:
            raise InvalidCallback(
                f"{kind.name}: {path} is taken from batches_notifications only, and on() stores its options "
                f"in Redis: write it there under a name of its own and use that name "
                f'(on(event, "{kind.name}:NAME"))'
            )
    for path in sorted(kind.secrets):
        value = _find(own, path)
        if value is not None and not (isinstance(value, str) and value.startswith(ENV)):
            raise InvalidCallback(
                f"{kind.name}: {path} is a secret and on() stores its options in Redis; write it into "
                f"batches_notifications under a name of its own and use that name "
                f'(on(event, "{kind.name}:NAME")), or give "env:NAME" to read it from the environment'
            )
    if _split(own.get("url")).password is not None:
        raise InvalidCallback(
            f"{kind.name}: the url holds a password and on() stores its options in Redis; "
            f"configure username and password in batches_notifications"
        )


def _find(options: Mapping[str, Any], path: str) -> Any:
    value: Any = options
    for key in path.split("."):
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _as_fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """Rename options that are keywords of Python, such as `from` to `from_`."""
    return {f"{name}_" if keyword.iskeyword(name) else name: value for name, value in options.items()}


def _origin(url: object) -> tuple[str, str | None, int | None]:
    parts = _split(url)
    return parts.scheme, parts.hostname, parts.port


def _split(url: object) -> SplitResult:
    """Split an address; a malformed one has empty parts, and the notifier itself refuses it."""
    try:
        parts = urlsplit(str(url or ""))
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return urlsplit("")
    return parts


def _mark_secrets(kind: type[Notifier], own: dict[str, Any]) -> dict[str, Any]:
    for path in kind.secrets:
        option, _, key = path.partition(".")
        value = own.get(option)
        if not key:
            own |= {option: mark_references(value)} if option in own else {}
        elif isinstance(value, Mapping) and key in value:
            own[option] = {**value, key: mark_references(value[key])}
    return own


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _explain_missing(kind: type[Notifier], name: str, option: str) -> str:
    here = "" if option in kind.secrets else f"give it to on(event, {name!r}, {option}=…), or "
    return f"{kind.name}: {option} is missing: {here}write it into batches_notifications[{name!r}]"


def _explain(
    kind: type[Notifier], options: Mapping[str, Any], values: Mapping[str, Any], exc: Exception
) -> str:
    """Return what is wrong with the options, without values that were read from the environment."""
    if not repeats_environment(str(exc), values.values()):  # safety: environment-error
        return str(exc)
    try:
        kind(**options)
    except Exception as written:  # noqa: BLE001 -- its text cannot repeat a value of the environment
        return str(written)
    references = {option: list(filter(is_reference, texts_in(value))) for option, value in options.items()}
    places = [f"{option} ({', '.join(found)})" for option, found in references.items() if found]
    return (
        f"the environment of this process holds no usable value for {' or '.join(places)}: correct it there; "
        "it is not shown here"
    )
