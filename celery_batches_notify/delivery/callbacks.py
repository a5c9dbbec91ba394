"""Callbacks as users declare them with `on()`: checked, stored as JSON, and made callable again."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any

from celery import Celery, Signature, Task
from celery.result import ResultBase
from kombu.exceptions import EncodeError
from kombu.utils import json

from celery_batches_notify.checks import check_event
from celery_batches_notify.delivery.rules import check_rules
from celery_batches_notify.errors import ConfigurationError, InvalidCallback
from celery_batches_notify.messages.other_packages import is_buffered
from celery_batches_notify.messages.traces import add_trace
from celery_batches_notify.model import Event
from celery_batches_notify.notifiers.base import Notifier
from celery_batches_notify.notifiers.registry import GIVE_UP_AFTER, Registry
from celery_batches_notify.settings import read_duration
from celery_batches_notify.store.packing import CALLBACKS_AT_MOST

BYTES_AT_MOST = 16 * 1024
ROUTING = ("queue", "exchange", "routing_key")

Target = type[Notifier] | str | Signature[Any]
Declared = dict[str, Any]


def declare_callback(
    declared: Sequence[Declared],
    event: str,
    target: Target,
    options: Mapping[str, Any],
    *,
    registry: Registry,
    app: Celery,
    accepted: Collection[str],
    give_up_after: timedelta,
) -> Declared:
    """Check one callback and return its stored form.

    Args:
        declared: The callbacks of the batch so far.
        event: The event that calls it.
        target: A notifier, by class, name or profile, or a signature.
        options: The notifier's own options; for any target `only_if`, the rules that must hold, and
            `give_up_after`, how long after its event it gets its last attempt; for `progress` also `at`, the
            share at which it fires; for `deadline` and `stall` also `after`, the time after which they fire.
        registry: The notifiers of the app.
        app: The app whose tasks may be called back.
        accepted: Names of tasks that may be called back even if the app does not have them.
        give_up_after: The default for the option of that name.

    Raises:
        InvalidCallback: The event, the target or an option cannot be used.
        ConfigurationError: The notifier's options do not make a notifier.
    """
    event = check_event(event)
    if len(declared) >= CALLBACKS_AT_MOST:
        raise InvalidCallback(f"a batch takes at most {CALLBACKS_AT_MOST} callbacks")
    n = sum(1 for other in declared if other["event"] == event)
    declaration: Declared = {"event": str(event), "n": n}
    options = dict(options)
    if "only_if" in options:
        declaration["only_if"] = check_rules(options.pop("only_if"))
    declaration |= _read_threshold(event, options)
    if isinstance(target, Signature):
        declaration["give_up_after"] = _milliseconds(_take_limit(options) or give_up_after)
        if options:
            raise InvalidCallback("options are for notifiers: give a signature's own with .set() or .s()")
        return declaration | _as_json(_declare_signature(target, app, accepted))
    return declaration | _declare_notifier(target, options, registry, give_up_after)


def _declare_notifier(
    target: type[Notifier] | str, options: dict[str, Any], registry: Registry, give_up_after: timedelta
) -> Declared:
    _refuse_what_needs_a_signature(target)
    name = registry.name_of(target)
    is_ours = GIVE_UP_AFTER in options and not registry.has_option(name, GIVE_UP_AFTER)
    own = _take_limit(options) if is_ours else None
    limit = {"give_up_after": _milliseconds(own or registry.limit_of(name) or give_up_after)}
    kept = {name: v.total_seconds() if isinstance(v, timedelta) else v for name, v in options.items()}
    stored = _as_json({"target": name, "notifier": name, "options": kept})
    registry.check(name, stored["options"])
    return limit | stored


def _take_limit(options: dict[str, Any]) -> timedelta | None:
    """Take `give_up_after` out of the options: how long after its event a callback gets its last attempt."""
    given = options.pop(GIVE_UP_AFTER, None)
    if given is None:
        return None
    try:
        return read_duration(GIVE_UP_AFTER, given, at_least=1)
    except ConfigurationError as exc:
        raise InvalidCallback(str(exc)) from None


def _milliseconds(duration: timedelta) -> int:
    return round(duration.total_seconds() * 1000)


def _refuse_what_needs_a_signature(target: object) -> None:
    """Raise `InvalidCallback` if the target is a task, its result or a function, and say how to pass it."""
    if isinstance(target, Task):
        raise InvalidCallback(
            f"on() takes a signature, got the task {target.name!r}: write {_name_of(target)}.s()"
        )
    if isinstance(target, ResultBase):
        raise InvalidCallback(
            "on() takes a signature, got the result of a call: write task.s(), not task.delay()"
        )
    if callable(target) and not isinstance(target, type) and not hasattr(target, "send"):
        raise InvalidCallback(
            f"a callback runs on a worker, so it must be a task, got the function {_name_of(target)}: "
            "declare it with @app.task and pass its signature, such as notify.s()"
        )


def _name_of(target: object) -> str:
    return str(getattr(target, "__name__", type(target).__name__))


def _read_threshold(event: str, options: dict[str, Any]) -> Declared:
    """Take the threshold of an event out of the options, if it has one: a share, or milliseconds."""
    if event == Event.PROGRESS:
        share = options.pop("at", None)
        if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 < share <= 1:
            raise InvalidCallback(
                'progress takes a share of the members that ended: on("progress", …, at=0.5)'
            )
        return {"at": share}
    if event in (Event.DEADLINE, Event.STALL):
        try:
            after = read_duration("after", options.pop("after", None))
        except ConfigurationError as exc:
            raise InvalidCallback(f'{event} takes a time: on("{event}", …, after=3600) ({exc})') from None
        return {"at": _milliseconds(after)}
    return {}


def walk_leaves(signature: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the single tasks of a signature in its JSON form, canvases taken apart."""
    kwargs = signature.get("kwargs") or {}
    match signature.get("subtask_type"):
        case "chain" | "group":
            parts = kwargs.get("tasks") or []
        case "chord":
            header = kwargs.get("header") or []
            parts = [*([header] if isinstance(header, Mapping) else header), kwargs.get("body")]
        case _:
            yield signature  # type: ignore[misc]
            return
    for part in parts:
        if part:
            yield from walk_leaves(part)


def is_canvas(signature: Mapping[str, Any]) -> bool:
    """Return whether a signature in its JSON form is more than one task."""
    return signature.get("subtask_type") in ("chain", "group", "chord")


def asks_results(signature: Mapping[str, Any]) -> bool:
    """Return whether Celery reads the result backend before it calls a signature in its JSON form.

    It does so for a chord, and a group with a successor in a chain becomes a chord.
    """
    parts = (signature.get("kwargs") or {}).get("tasks") or []
    match signature.get("subtask_type"):
        case "chord":
            return True
        case "chain":
            before_others = [part for part in parts[:-1] if part.get("subtask_type") == "group"]
            return bool(before_others) or any(map(asks_results, parts))
        case "group":
            return any(map(asks_results, parts))
    return False


def prepare_signature(app: Celery, signature: Declared, task_id: str, queue: str | None) -> Signature[Any]:
    """Make a signature from its stored form, with ids that are the same on every publish, and a queue.

    A task that is not registered here is called by its name, with the options that it had where `on()` was
    called, because a worker that has it will run it.

    Raises:
        InvalidCallback: The stored form is not a signature's.
    """
    for k, leaf in enumerate(_check_leaves(signature)):
        own, options = leaf.pop("defaults", {}), leaf.setdefault("options", {})
        if is_canvas(signature):
            options["task_id"] = f"{task_id}_{k}"
            if add_trace({}):
                options["headers"] = add_trace(options.get("headers") or {})
        if queue and not options.keys() & set(ROUTING):
            options["queue"] = queue
        if leaf["task"] not in app.tasks:  # safety: task-options
            routed = ROUTING if options.keys() & set(ROUTING) else ()
            leaf["options"] = {name: value for name, value in own.items() if name not in routed} | options
    prepared: Signature[Any] = Signature.from_dict(signature, app=app)
    return prepared


def route_of(app: Celery, signature: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that route another task like the first task of a prepared signature."""
    leaf = next(walk_leaves(signature))
    task = app.tasks.get(leaf["task"])
    options = {**(_options_of(task) if task else {}), **leaf["options"]}
    return {"route_name": leaf["task"]} | {name: options[name] for name in ROUTING if options.get(name)}


def _check_leaves(signature: Mapping[str, Any]) -> list[dict[str, Any]]:
    with suppress(AttributeError, TypeError):
        leaves = list(walk_leaves(signature))
        if leaves and all(map(_is_leaf, leaves)):
            return leaves
    raise InvalidCallback("the stored form of this callback is not a signature")


def _is_leaf(leaf: Any) -> bool:
    name, options = leaf.get("task"), [leaf.get("options", {}), leaf.get("defaults", {})]
    return isinstance(name, str) and name != "" and all(isinstance(each, dict) for each in options)


def _declare_signature(target: Signature[Any], app: Celery, accepted: Collection[str]) -> Declared:
    stored = _as_json({"signature": target})["signature"]
    for leaf in walk_leaves(stored):
        if is_buffered(app, leaf["task"]):  # safety: buffered-callback
            raise InvalidCallback(
                f"{leaf['task']} is a task of celery-batches, which reports no single call, so nobody would "
                "learn whether this callback ran: let a plain task call it"
            )
        if (task := app.tasks.get(leaf["task"])) is not None:
            leaf["defaults"] = _options_of(task)
        elif leaf["task"] not in accepted:
            raise InvalidCallback(
                f"the task {leaf['task']!r} is not registered here: import it, or name it in "
                "batches_callback_tasks if only the workers have it"
            )
    names = " | ".join(str(leaf["task"]) for leaf in walk_leaves(stored))
    return {"target": names[:200], "signature": stored}


def _options_of(task: Any) -> dict[str, Any]:
    """Return the options that a task's class sets, if they are JSON: they are stored with the task's name."""
    options = task._get_exec_options().items()
    return {name: value for name, value in options if isinstance(value, (str, int, float))}


def _as_json(declared: Declared) -> Declared:
    try:
        text = json.dumps(declared)
    except (EncodeError, TypeError, ValueError, RecursionError) as exc:
        raise InvalidCallback(f"a callback must be JSON: {exc}") from exc
    if len(text) > BYTES_AT_MOST:
        raise InvalidCallback(
            f"a callback must be at most {BYTES_AT_MOST} bytes of JSON, got {len(text)}: "
            "give it a reference to the data instead"
        )
    out: Declared = json.loads(text)
    return out
