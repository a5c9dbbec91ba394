"""`env:NAME` in place of a value: only the process that sends reads it, and no text shows the value."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any

from celery_batches_notify.errors import ConfigurationError

ENV = "env:"


class Reference(str):
    """An `env:NAME` that will be read from the environment.

    A text that only looks like one, for instance in a description, stays a `str`.
    """

    __slots__ = ()


class FromEnvironment(str):
    """A value that was read from the environment; errors and logs show its `reference` instead."""

    reference: Reference


def is_reference(value: object) -> bool:
    """Return whether the value is an `env:NAME` that only the sending process reads."""
    return isinstance(value, Reference)


def mark_references(value: Any) -> Any:
    """Return an option, or several, with each text `env:NAME` as a `Reference`."""
    if isinstance(value, Mapping):
        return {key: mark_references(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [mark_references(inner) for inner in value]
    return Reference(value) if isinstance(value, str) and value.startswith(ENV) else value


def read_references(option: str, value: Any) -> Any:
    """Return an option with the values of the environment in place of each `Reference`.

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
    """Yield the texts in an option, which is a text, a mapping or a list."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        yield from texts_in(list(value.values()))
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from texts_in(item)
