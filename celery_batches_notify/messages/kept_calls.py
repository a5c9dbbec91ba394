"""A dead member's call, kept as JSON so that it can be sent again exactly as it was."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from kombu.exceptions import EncodeError
from kombu.utils import json

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import Headers, read_request, strip_header
from celery_batches_notify.messages.run import run_of

BYTES_AT_MOST = 16 * 1024
NOT_JSON = "its arguments are not JSON"
HEADERS_NOT_JSON = "its headers are not JSON"
TOO_LONG = "its arguments are too long"
NOT_KNOWN = "its arguments are not known here"
CHORD_IS_OVER = "Celery has given up its chord"
_OPTIONS = (
    "chain",
    "chord",
    "group_id",
    "group_index",
    "link",
    "link_error",
    "parent_id",
    "reply_to",
    "root_id",
    "shadow",
    "soft_time_limit",
    "time_limit",
)
_OF_SIGNATURES = {"task", "args", "kwargs", "options", "subtask_type", "immutable"}
_COPIED = (dict, list)
_ROUTING = ("queue", "exchange", "routing_key", "priority")
# RabbitMQ takes a message with these for a cycle, and drops it.
_OF_DEAD_LETTERS = ("x-death", "x-first-death-", "x-last-death-")


def note_arguments(request: Any) -> None:
    """Note a task's arguments as they came, because its code may change them in place."""
    with suppress(RecursionError):
        run_of(request).arguments = (_copy(list(request.args)), _copy(request.kwargs))


def keep_call(request: Any, task: str) -> tuple[str, str]:
    """Return a call as JSON, or "" and why it cannot be sent again."""
    args, kwargs = run_of(request).arguments or (request.args, request.kwargs)
    if args is None or kwargs is None or not request.id:
        return "", NOT_KNOWN
    options = request.as_execution_options()
    headers = _foreign_headers(options.get("headers"))
    whole = {"id": request.id, "task": task, "args": list(args), "kwargs": kwargs}
    whole["options"] = _options(options) | _routing(request)
    if vars(request).get("ignore_result") is not None:
        whole["options"]["ignore_result"] = request.ignore_result
    identity = read_request(request)
    if isinstance(identity, Membership) and identity.turn:  # it bears the id of the task that it replaced
        whole["turn"] = identity.turn
    if not is_json(whole):
        return "", NOT_JSON
    if headers and not is_json(headers):
        return "", HEADERS_NOT_JSON
    whole["options"] |= {"headers": headers} if headers else {}  # safety: retry-headers
    call = json.dumps(whole)
    return (call, "") if len(call) <= BYTES_AT_MOST else ("", TOO_LONG)


def is_json(value: Any) -> bool:
    """Return whether JSON gives a value back unchanged: not a tuple as a list, nor a number as a string."""
    try:
        return _is_same(json.loads(json.dumps(value)), value)  # safety: unchanged-by-json
    except (EncodeError, TypeError, ValueError, RecursionError):
        return False


def _is_same(read: Any, sent: Any) -> bool:
    if isinstance(sent, dict) and sent.keys() >= _OF_SIGNATURES:
        # Celery takes a list or a tuple of arguments.
        sent = {**sent, "args": list(sent["args"] or ())}
    if type(read) is not type(sent):
        return False
    if isinstance(read, dict):
        return read.keys() == sent.keys() and all(_is_same(read[key], sent[key]) for key in sent)
    if isinstance(read, list):
        return len(read) == len(sent) and all(map(_is_same, read, sent))
    return repr(read) == repr(sent)


def _options(options: Mapping[str, Any]) -> dict[str, Any]:
    kept = {name: options[name] for name in _OPTIONS if options.get(name) is not None}
    if nesting := options.get("replaced_task_nesting"):
        kept["replaced_task_nesting"] = nesting
    if stamped := [name for name in options.get("stamped_headers") or () if name in options]:
        kept |= {"stamped_headers": stamped, **{name: options[name] for name in stamped}}
    return kept


def _routing(request: Any) -> dict[str, Any]:
    routing = dict(request.delivery_info or {})
    if routing.get("exchange") == "" and routing.get("routing_key"):  # Celery sends to queues so
        routing = {"queue": routing["routing_key"], "priority": routing.get("priority")}
    return {name: routing[name] for name in _ROUTING if routing.get(name) is not None}


def _foreign_headers(headers: Headers | None) -> Headers:
    """Return the headers that are not Celery's or ours, because Celery's own retry keeps them too."""
    foreign = {
        name: value for name, value in (headers or {}).items() if not name.startswith(_OF_DEAD_LETTERS)
    }
    strip_header(foreign)
    return foreign


def _copy(value: Any) -> Any:
    """Copy dicts and lists; other mutable values cannot be kept as JSON."""
    if type(value) is dict:
        return {key: _copy(each) if type(each) in _COPIED else each for key, each in value.items()}
    if type(value) is list:
        return [_copy(each) if type(each) in _COPIED else each for each in value]
    return value
