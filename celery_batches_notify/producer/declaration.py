"""The declaration of a batch before it is stored: description, tags, lifetimes and callbacks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any

from kombu.utils import json

from celery_batches_notify.delivery.callbacks import Declared, Target, declare_callback
from celery_batches_notify.engine import Engine
from celery_batches_notify.errors import ConfigurationError
from celery_batches_notify.model import Event
from celery_batches_notify.settings import LINGER_AT_LEAST, read_duration, read_flag
from celery_batches_notify.text import replace_halves
from celery_batches_notify.traces import FIELD
from celery_batches_notify.traces import begin as begin_trace

DESCRIPTION_AT_MOST = 1000
TAGS_AT_MOST = 16
TAG_AT_MOST = 200

Duration = float | timedelta | None


class Declaration:
    """A batch that is declared and not stored yet. The arguments are those of `Batch`.

    Raises:
        ConfigurationError: An argument is wrong.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        description: str,
        tags: Iterable[str],
        callback_queue: str | None,
        expires: Duration,
        linger: Duration,
        keep_open: bool,
        keep_calls: bool | None,
    ) -> None:
        settings = engine.settings
        self._engine = engine
        self._callbacks: list[Declared] = []
        self.description = _check_description(description)
        self.tags = _check_tags(tags)
        self._fields: dict[str, str | int | float] = {
            "description": self.description,
            "tags": json.dumps(self.tags),
            "expires": _milliseconds(
                "expires", expires, settings.expires, at_least=settings.expires_at_least
            ),
            "linger": _milliseconds("linger", linger, settings.linger, at_least=LINGER_AT_LEAST),
            "dead_expires": _milliseconds("dead_expires", None, settings.dead_expires),
            "abandon_after": _milliseconds("abandon_after", None, settings.abandon_after),
            **({"keep_open": 1} if keep_open else {}),
        }
        self.keep_calls = settings.keep_calls if keep_calls is None else read_flag("keep_calls", keep_calls)
        if self.keep_calls:
            self._fields["keep_calls"] = 1
        if callback_queue is not None:
            self._fields["callback_queue"] = callback_queue

    def add_callback(self, event: str, target: Target, options: Mapping[str, Any]) -> None:
        """Declare a callback for an event. Raises `InvalidCallback` and `ConfigurationError`."""
        engine = self._engine
        declared = declare_callback(
            self._callbacks,
            event,
            target,
            options,
            registry=engine.registry,
            app=engine.app,
            accepted=engine.settings.callback_tasks,
            give_up_after=engine.settings.give_up_after,
        )
        self._callbacks.append(declared)

    def store(self, bid: str, parent: tuple[str, int] | None) -> None:
        """Store the batch without members; `parent` is its parent's bid and its index there."""
        of_event = {e: [c for c in self._callbacks if c["event"] == e] for e in Event}
        fields = {f"callbacks:{event}": len(callbacks) for event, callbacks in of_event.items() if callbacks}
        entries = {f"{c['event']}:{c['n']}": c for c in self._callbacks}
        at = {f"at:{entry}": c["at"] for entry, c in entries.items() if "at" in c}
        at |= {f"give_up_after:{entry}": c["give_up_after"] for entry, c in entries.items()}
        at |= {f"notifies:{entry}": 1 for entry, c in entries.items() if "notifier" in c}
        family: dict[str, str | int] = {"parent_bid": parent[0], "parent_index": parent[1]} if parent else {}
        trace = {FIELD: ids} if (ids := begin_trace()) else {}
        watches = [c["at"] for c in (*of_event[Event.DEADLINE], *of_event[Event.STALL])]
        self._engine.store.open_batch(
            bid,
            {**self._fields, **fields, **at, **family, **trace},
            callbacks=json.dumps(self._callbacks) if self._callbacks else "",
            watch_after=min(watches, default=0),
        )


def _check_description(description: object) -> str:
    if isinstance(description, str) and len(description) <= DESCRIPTION_AT_MOST:
        return replace_halves(description)
    raise ConfigurationError(f"description must be a string of at most {DESCRIPTION_AT_MOST} characters")


def _check_tags(tags: Iterable[str]) -> tuple[str, ...]:
    checked = (tags,) if isinstance(tags, str) else tuple(tags)
    fit = all(isinstance(tag, str) and 0 < len(tag) <= TAG_AT_MOST for tag in checked)
    if fit and len(checked) <= TAGS_AT_MOST:
        return tuple(map(replace_halves, checked))
    raise ConfigurationError(f"tags must be at most {TAGS_AT_MOST} strings of 1 to {TAG_AT_MOST} characters")


def _milliseconds(name: str, value: Duration, default: timedelta, *, at_least: float = 0) -> int:
    duration = default if value is None else read_duration(name, value, at_least=at_least)
    return round(duration.total_seconds() * 1000)
