"""What a notifier is: one small class with one method, its options as fields."""

from __future__ import annotations

import dataclasses
import keyword
import os
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Protocol, runtime_checkable
from urllib.parse import SplitResult, urlsplit

from celery_batches_notify.errors import ConfigurationError, InvalidCallback
from celery_batches_notify.model import Notification
from celery_batches_notify.spelling import did_you_mean

ENV = "env:"

_PIECES = re.compile(r"[^\w.~%+-]+")
_HIDDEN_AT_LEAST = 4


class Reply(str):
    """What a receiver said, in a few words, and its status code, if its protocol has one."""

    status_code: int | None

    def __new__(cls, words: str, status_code: int | None = None) -> Reply:
        """Make one from its words."""
        reply = super().__new__(cls, words)
        reply.status_code = status_code
        return reply


@runtime_checkable
class Notifier(Protocol):
    """A channel. Write it as a frozen dataclass: its fields are its options.

    Attributes:
        name: The word for it in `batches_notifications` and in `on("complete", "name")`.
        secrets: Options that hold a secret, with a dot before a key of a nested mapping
            (`via_options.password`). They are accepted from the configuration, never from `on()`.
        credentials: Options that belong to the configured `url`'s origin and stay behind when
            `on()` overrides it with another one. A mapping among them is replaced as a whole.
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
    kind: type[Notifier], configured: Mapping[str, Any], own: Mapping[str, Any]
) -> dict[str, Any]:
    """Put a callback's own options over the configured ones.

    Nested mappings are merged too, unless they hold credentials: those stay with their server.
    """
    kept, own = _as_fields(configured), _as_fields(own)
    if "url" in own and _origin(own["url"]) != _origin(configured.get("url")):
        kept = {k: v for k, v in kept.items() if k not in kind.credentials}
    for key, value in own.items():
        both = isinstance(value, Mapping) and isinstance(kept.get(key), Mapping)
        both = both and key not in kind.credentials
        kept[key] = {**kept[key], **value} if both else value
    return kept


def build_notifier(
    kind: type[Notifier], options: Mapping[str, Any], *, reveal: bool = True, name: str | None = None
) -> Notifier:
    """Make the notifier that these options describe, with its `env:NAME` references read.

    Args:
        kind: The notifier's class.
        options: Its options, configured and own ones merged.
        reveal: False leaves `env:NAME` references as they are: the process that declares a callback
            needs no secrets, only the one that sends does.
        name: The key of `batches_notifications` that configures it; the class's own name if not given.

    Raises:
        ConfigurationError: An option is unknown, missing, wrong, or its variable is not set.
    """
    options = _as_fields(options)
    fields = [f for f in dataclasses.fields(kind) if f.init]  # type: ignore[arg-type]
    known = [f.name for f in fields]
    if unknown := sorted(set(options) - set(known)):
        raise ConfigurationError(
            f"{kind.name}: there is no option {unknown[0]!r}{did_you_mean(unknown[0], known)}; its options "
            f"are {', '.join(known)}"
        )
    if missing := [f.name for f in fields if f.name not in options and _is_required(f)]:
        raise ConfigurationError(_explain_missing(kind, name or kind.name, missing[0]))
    values = {k: _reveal(kind.name, k, v) for k, v in options.items()} if reveal else dict(options)
    try:
        return kind(**values)
    except (TypeError, ValueError) as exc:
        raise ConfigurationError(f"{kind.name}: {exc}") from None


def refuse_secrets(kind: type[Notifier], own: Mapping[str, Any]) -> None:
    """Raise `InvalidCallback` if options for `on()`, which are stored, hold a secret in clear."""
    for path in sorted(kind.secrets):
        value: Any = own
        for key in path.split("."):
            value = value.get(key) if isinstance(value, Mapping) else None
        if value is not None and not str(value).startswith(ENV):
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


def hide_secrets(notifier: Notifier, text: str) -> str:
    """Take a notifier's secrets out of a text that is not its own, such as a library's error.

    Of an address that is a secret, every piece of the path and the query is taken out: the host may be told.
    """
    pieces: set[str] = set()
    for path in notifier.secrets:
        option, _, key = path.partition(".")
        value: Any = getattr(notifier, option, None)
        for secret in _texts(value.get(key) if key and isinstance(value, Mapping) else value):
            _, _, behind_host = secret.partition("://")[2].partition("/")
            pieces |= {secret, *_PIECES.split(behind_host)}
    for piece in sorted(pieces, key=len, reverse=True):
        if len(piece) >= _HIDDEN_AT_LEAST:
            text = text.replace(piece, "…")
    return text


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from _texts(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _texts(item)


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


def _reveal(name: str, option: str, value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _reveal(name, f"{option}.{k}", v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_reveal(name, option, v) for v in value]
    if not isinstance(value, str) or not value.startswith(ENV):
        return value
    variable = value.removeprefix(ENV)
    if variable not in os.environ:
        raise ConfigurationError(f"{name}: {option} refers to the environment variable {variable}: set it")
    return os.environ[variable]


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _explain_missing(kind: type[Notifier], name: str, option: str) -> str:
    here = "" if option in kind.secrets else f"give it to on(event, {name!r}, {option}=…), or "
    return f"{kind.name}: {option} is missing: {here}write it into batches_notifications[{name!r}]"
