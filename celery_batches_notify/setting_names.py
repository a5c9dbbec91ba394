"""The names of settings as an app's configuration writes them, such as `CELERY_BATCHES_…` with Django."""

from __future__ import annotations

from collections.abc import Iterable

from celery import Celery

from celery_batches_notify.spelling import did_you_mean


def written_names(app: Celery, known: Iterable[str]) -> dict[str, str]:
    """Return how the app's configuration writes each of these settings."""
    space = _namespace_of(app)
    return {name: space + (name.upper() if space.isupper() else name) for name in known}


def find_unknown(app: Celery, known: Iterable[str], prefix: str) -> list[str]:
    """Return the app's settings with this prefix that are not known, each with a suggestion."""
    written, space = written_names(app, known), _namespace_of(app)
    unknown = []
    for name in sorted(set(map(str, app.conf)) - {*written, *written.values()}):
        bare = name.lower().removeprefix(space.lower())
        if bare.startswith(prefix):
            unknown.append(name + did_you_mean(bare, written, cutoff=0.8, show=written.__getitem__))
    return unknown


def _namespace_of(app: Celery) -> str:
    """Return what the names of the app's settings begin with, such as `CELERY_` in Django."""
    namespace: str | None = app.namespace  # type: ignore[attr-defined]
    return f"{namespace.rstrip('_')}_" if namespace else ""
