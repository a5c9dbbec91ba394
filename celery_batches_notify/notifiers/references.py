"""`env:NAME` in place of a value: only the process that sends reads it, and nobody shows what it read."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from celery_batches_notify.errors import ConfigurationError

ENV = "env:"


class Reference(str):
    """An `env:NAME` that stands where it is read, and was not read yet.

    A text that only looks like one, because somebody wrote it into a description or a form, stays a `str`.
    """

    __slots__ = ()


class FromEnvironment(str):
    """A value that was read; `reference` is what stands for it in errors and logs."""

    reference: Reference


def is_reference(value: object) -> bool:
    """Say whether the value is an `env:NAME` that only the sending process reads."""
    return isinstance(value, Reference)


def mark_references(value: Any) -> Any:
    """Return an option, or several, in which each text `env:NAME` is a `Reference`."""
    if isinstance(value, Mapping):
        return {key: mark_references(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mark_references(inner) for inner in value]
    return Reference(value) if isinstance(value, str) and value.startswith(ENV) else value


def read_references(option: str, value: Any) -> Any:
    """Return an option in which each `Reference` is replaced by what the environment holds.

    Raises:
        ConfigurationError: A variable is not set.
    """
    if isinstance(value, Mapping):
        return {key: read_references(f"{option}.{key}", inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [read_references(option, inner) for inner in value]
    if not isinstance(value, Reference):
        return value
    variable = value.removeprefix(ENV)
    if variable not in os.environ:
        raise ConfigurationError(f"{option} refers to the environment variable {variable}: set it")
    found = FromEnvironment(os.environ[variable])
    found.reference = value
    return found


def texts_in(value: object) -> Iterator[str]:
    """Yield the texts in an option: a text itself, or those of a mapping or a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)
