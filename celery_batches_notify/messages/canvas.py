"""Marking: a signature that hangs in a member's message says that it will be a member too. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import HEADER, Headers, mark_of, read_header

CHORD_UNLOCK = "celery.chord_unlock"
CALLS_PARTS = frozenset({"celery.chunks", "celery.group", "celery.chord"})  # from their own code
_CONTAINERS = frozenset({"chain", "group", "chord"})
_IN_MESSAGE = ("callbacks", "chain", "chord")  # errbacks are no members
_IN_OPTIONS = ("link", "chain", "chord")  # where freezing puts the outer body and the rest of the chain
_IN_KWARGS = ("tasks", "header", "body")


def mark_message(name: str, message: Any, member: Membership, *, replaced: Membership | None = None) -> Any:
    """Return a member's message in which every hanging signature is marked as a late member of its batch.

    Marks stand on copies: a signature may also be somebody's errback, or be used again outside the batch.

    Args:
        name: The task's name.
        message: The message, as Celery's protocol 2 makes it.
        member: Whose message it is.
        replaced: The running member that this message replaces as the first part of a canvas.
    """
    args, kwargs, embed = message.body
    marking = _Marking(member, replaced)
    embed = {**embed, **{k: marking.mark(embed[k]) for k in _IN_MESSAGE if embed.get(k)}}
    if name == CHORD_UNLOCK:
        args = (args[0], marking.mark(args[1]), *args[2:])
    return message._replace(body=(args, kwargs, embed))


def carries_more(name: str, message: Any) -> bool:
    """Whether more members come of a message: links of a chain, callbacks, a chord's body, chunks."""
    return name == CHORD_UNLOCK or name in CALLS_PARTS or any(message.body[2].get(k) for k in _IN_MESSAGE)


def unlocked_body(name: str, message: Any) -> Any:
    """Return the chord's body that a message carries, if it is Celery's own task that waits for a header."""
    args = message.body[0]
    return args[1] if name == CHORD_UNLOCK and len(args) > 1 else None


def read_mark(headers: Any, task_id: str) -> Headers | None:
    """Read the mark under which a signature hangs in this task's own message; None for any other mark.

    Only that task publishes it. So headers that a task passes on by hand make no member of what it calls.
    """
    mark = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return mark if isinstance(mark, dict) and mark.get("late") is True and mark.get("by") == task_id else None


def passes_on(message: Any, task_id: str) -> bool:
    """Whether a message carries a signature that hangs in this task's own message, as its chain does."""
    hanging = [part for key in _IN_MESSAGE for part in _listed(message.body[2].get(key))]
    return any(is_marked(part, task_id) for part in hanging)


def is_marked(signature: Any, task_id: str) -> bool:
    """Whether a signature, or any that it carries, hangs in this task's own message."""
    if not isinstance(signature, Mapping):
        return False
    options = signature.get("options") or {}
    if read_mark(options.get("headers"), task_id):
        return True
    carried = [part for key in _IN_OPTIONS for part in _listed(options.get(key))]
    if signature.get("subtask_type") in _CONTAINERS:
        kwargs = signature.get("kwargs") or {}
        carried += [part for key in _IN_KWARGS for part in _listed(kwargs.get(key))]
    return any(is_marked(part, task_id) for part in carried)


def first_of_body(body: Any, task_id: str) -> tuple[Membership, ...]:
    """Return the members that a chord's body begins with, where this task's message says under which ids."""
    if isinstance(body, Mapping) and body.get("subtask_type") in ("chain", "group"):
        parts = _listed(body["kwargs"].get("tasks"))
        first = parts[:1] if body["subtask_type"] == "chain" else parts
    else:
        first = [body]
    claims = [_claim_of(signature, task_id) for signature in first]
    return tuple(claim for claim in claims if isinstance(claim, Membership))


def chord_of(request: Any) -> Any:
    """Return the body of the chord that a task, or the last one of its chain, reports to; or None."""
    reports_to = getattr(request, "chord", None)
    return reports_to or next(
        filter(None, map(_chord_behind, _listed(getattr(request, "chain", None)))), None
    )


def _chord_behind(signature: Any) -> Any:
    """Return the chord that a signature that is still to be called ends in, but none that begins in it."""
    if not isinstance(signature, Mapping):
        return None
    kwargs = signature.get("kwargs") or {}
    last = {"chain": "tasks", "group": "tasks", "chord": "body"}.get(signature.get("subtask_type") or "", "")
    parts = _listed(kwargs.get(last)) if last else []
    found = (signature.get("options") or {}).get("chord")
    return found or next(filter(None, map(_chord_behind, parts)), None)


def _claim_of(signature: Any, task_id: str) -> object:
    if not isinstance(signature, Mapping) or signature.get("subtask_type") in _CONTAINERS:
        return None
    options = signature.get("options") or {}
    return read_header(read_mark(options.get("headers"), task_id), options.get("task_id"))


class _Marking:
    """One message's marking; a signature that hangs in several places is copied once."""

    def __init__(self, member: Membership, replaced: Membership | None) -> None:
        late = Membership(bid=member.bid, index=None, task_id="", of=member.origin)
        self._mark = mark_of(late) | {"by": member.task_id}
        self._replaced = replaced
        self._copies: dict[int, Any] = {}

    def mark(self, hanging: Any) -> Any:
        """Mark one signature or several."""
        if not isinstance(hanging, Mapping):
            return [self._copy_once(signature) for signature in hanging]
        return self._copy_once(hanging)

    def _copy_once(self, signature: Any) -> Any:
        if not isinstance(signature, Mapping):
            return signature
        key = id(signature)
        if key not in self._copies:
            self._copies[key] = self._copy(signature)
        return self._copies[key]

    def _copy(self, signature: Mapping[str, Any]) -> dict[str, Any]:
        options = dict(signature.get("options") or {})
        options.update({k: self.mark(options[k]) for k in _IN_OPTIONS if options.get(k)})
        kwargs = signature.get("kwargs") or {}
        container = signature.get("subtask_type") in _CONTAINERS
        if container:
            kwargs = {**kwargs, **{k: self.mark(kwargs[k]) for k in _IN_KWARGS if kwargs.get(k) is not None}}
        # A container hands headers of its own down over its parts' headers; where it has none, a mark there
        # would erase what the user wrote on the parts.
        if not container or options.get("headers"):
            options["headers"] = self._mark_headers(options.get("headers") or {}, options.get("task_id"))
        return {**signature, "options": options, "kwargs": kwargs}

    def _mark_headers(self, headers: Headers, task_id: object) -> Headers:
        mark = self._mark | self._turn(headers.get(HEADER), task_id)
        marked = {**headers, HEADER: mark}
        if isinstance(headers.get("headers"), dict):
            marked["headers"] = {**headers["headers"], HEADER: mark}
        return marked

    def _turn(self, mark: object, task_id: object) -> Headers:
        """A canvas's last part bears the id of the task that it replaces, yet is a member of its own."""
        if self._replaced is not None and task_id == self._replaced.task_id:
            return {"turn": self._replaced.turn + 1}
        turn = mark.get("turn") if isinstance(mark, dict) and mark.get("bid") == self._mark["bid"] else None
        return {"turn": turn} if turn else {}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, Mapping) else list(value)
