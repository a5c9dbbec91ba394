"""What a notifier is: one small class with one method, its options as fields."""

from __future__ import annotations

import dataclasses
import keyword
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
    """What a receiver said, in a few words, and its status code, if its protocol has one."""

    status_code: int | None

    def __new__(cls, words: str, status_code: int | None = None) -> Reply:
        """Make one from its words."""
        reply = super().__new__(cls, words)
        reply.status_code = status_code
        return reply


class NotifierBroke(NotificationFailed):
    """A notifier raised an error that it should have turned into a `NotificationFailed`."""


@runtime_checkable
class Notifier(Protocol):
    """A channel. Write it as a frozen dataclass: its fields are its options.

    Attributes:
        name: The word for it in `batches_notifications` and in `on("complete", "name")`.
        secrets: Options that hold a secret, with a dot before a key of a nested mapping
            (`via_options.password`). They are accepted from the configuration, never from `on()`.
        credentials: Options that belong to the configured `url`'s origin and stay behind when
            `on()` overrides it with another one. A mapping among them is replaced as a whole.

    A class may have a `receiver`, a text that names what fails as a whole, such as a server and a room, if
    its `url` does not. Of either no more is shown than scheme, host and port.
    """

    name: ClassVar[str]
    secrets: ClassVar[frozenset[str]]
    credentials: ClassVar[frozenset[str]]

    def send(self, notification: Notification) -> str:
        """Send once, within a bounded time, and return in a few words what the receiver said.

        The words may be a `Reply`, whose status code the delivery log then holds.

        Raises:
            NotificationFailed: It did not arrive; the error says whether and when to try again.
        """
        ...


def merge_options(
    kind: type[Notifier], configured: Mapping[str, Any], own: Mapping[str, Any], *, stored: bool = True
) -> dict[str, Any]:
    """Put a callback's own options over the configured ones.

    Nested mappings are merged too, unless they hold credentials: those stay with their server. `env:NAME` is
    a reference in the configuration; among own options that are stored, only in place of a secret.
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
    """Make the notifier that these options describe, with its `env:NAME` references read.

    Args:
        kind: The notifier's class.
        configured: Its options in the configuration.
        own: A callback's own options, which go over the configured ones.
        stored: Whether the own options come from the store, or are about to go there.
        reveal: False leaves `env:NAME` references as they are: the process that declares a callback
            needs no secrets, only the one that sends does.
        name: The key of `batches_notifications` that configures it; the class's own name if not given.

    Raises:
        ConfigurationError: An option is unknown, missing, wrong, or its variable is not set.
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
    """Let a notifier send; what comes of it shows no secret, and no value from the environment.

    Raises:
        NotificationFailed: It did not arrive.
        NotifierBroke: The notifier raised another error, which may be its library's, or a bug.
    """
    try:
        said = notifier.send(notification)
    except NotificationFailed as exc:
        exc.args = (hide_environment(notifier, str(exc)),)
        raise
    except Exception as exc:
        words = hide_secrets(notifier, hide_environment(notifier, str(exc)))
        raise NotifierBroke(f"{type(exc).__name__} in the notifier: {words}") from exc
    return Reply(hide_environment(notifier, said), getattr(said, "status_code", None))


def refuse_secrets(kind: type[Notifier], own: Mapping[str, Any]) -> None:
    """Raise `InvalidCallback` if options for `on()`, which are stored, hold what may not be stored.

    That is a secret in clear, and what the class names in `configured_only`.
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
    """Name options as a class can: `from` is `from_` there, as it is a keyword of Python."""
    return {f"{name}_" if keyword.iskeyword(name) else name: value for name, value in options.items()}


def _origin(url: object) -> tuple[str, str | None, int | None]:
    parts = _split(url)
    return parts.scheme, parts.hostname, parts.port


def _split(url: object) -> SplitResult:
    """Take an address apart; one that is none has no parts, and the notifier refuses it in its own words."""
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
    """Say what is wrong with the options; a value that was read from the environment is not repeated."""
    if not repeats_environment(str(exc), values.values()):  # safety: environment-error
        return str(exc)
    try:
        kind(**options)
    except Exception as written:  # noqa: BLE001 -- it is about options that hold no such value
        return str(written)
    references = {option: list(filter(is_reference, texts_in(value))) for option, value in options.items()}
    places = [f"{option} ({', '.join(found)})" for option, found in references.items() if found]
    return (
        f"the environment of this process holds no usable value for {' or '.join(places)}: correct it there; "
        "it is not shown here"
    )
