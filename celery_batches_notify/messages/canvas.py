"""Tags: a header on the signatures inside a member's message makes their tasks members too. Pure: no I/O."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from celery_batches_notify.membership import Membership
from celery_batches_notify.messages.headers import HEADER, Headers, header_of, read_header

CHORD_UNLOCK = "celery.chord_unlock"
CALLS_PARTS = frozenset({"celery.chunks", "celery.group", "celery.chord"})  # from their own code
_CONTAINERS = frozenset({"chain", "group", "chord"})
_IN_MESSAGE = ("callbacks", "chain", "chord")  # errbacks are not members
_IN_OPTIONS = ("link", "chain", "chord")  # where freezing puts the outer body and the rest of the chain
_IN_KWARGS = ("tasks", "header", "body")


def tag_message(name: str, message: Any, member: Membership, *, replaced: Membership | None = None) -> Any:
    """Tag every signature in a member's message as a successor in its batch; return the message.

    The tags are on copies: a signature may also be an errback, or be used again outside the batch.

    Args:
        name: The task's name.
        message: The message, as Celery's protocol 2 makes it.
        member: The member whose message it is.
        replaced: The running member that this message replaces as the first part of a canvas.
    """
    args, kwargs, embed = message.body
    tags = _Tags(member, replaced)
    embed = {**embed, **{k: tags.add_to(embed[k]) for k in _IN_MESSAGE if embed.get(k)}}
    if name == CHORD_UNLOCK:
        args = (args[0], tags.add_to(args[1]), *args[2:])
    return message._replace(body=(args, kwargs, embed))


def carries_more(name: str, message: Any) -> bool:
    """Return whether a message's task calls more members: links of a chain, callbacks, a body, chunks."""
    return name == CHORD_UNLOCK or name in CALLS_PARTS or any(message.body[2].get(k) for k in _IN_MESSAGE)


def unlocked_body(name: str, message: Any) -> Any:
    """Return the chord's body in a message of Celery's task that waits for a chord's header; else None."""
    args = message.body[0]
    return args[1] if name == CHORD_UNLOCK and len(args) > 1 else None


def read_tag(headers: Any, task_id: str) -> Headers | None:
    """Read the tag of a signature that was inside this task's own message; None for any other header.

    Only that task publishes the signature. So a task that passes headers on by hand does not make members.
    """
    tag = headers.get(HEADER) if isinstance(headers, Mapping) else None
    return tag if isinstance(tag, dict) and tag.get("late") is True and tag.get("by") == task_id else None


def passes_on(message: Any, task_id: str) -> bool:
    """Return whether a message carries a signature from this task's own message, such as its chain."""
    return any(is_tagged(part, task_id) for part in _carried_by(message))


def last_of_chain(message: Any) -> str | None:
    """Return the id of the task with which the chain in a message ends; None without a chain."""
    chain = message.body[2].get("chain")  # the last link comes first
    last = chain[0] if chain else None
    while isinstance(last, Mapping) and last.get("subtask_type") == "chord":
        last = (last.get("kwargs") or {}).get("body")
    return _options_of(last).get("task_id") if isinstance(last, Mapping) else None


def is_tagged(signature: Any, task_id: str) -> bool:
    """Return whether a signature, or any that it carries, comes from this task's own message."""
    return any(read_tag(_options_of(each).get("headers"), task_id) for each in _walk(signature))


def walk_message(name: str, message: Any) -> Iterator[Mapping[str, Any]]:
    """Yield every signature in a member's message, as deep as they lie."""
    for signature in (*_carried_by(message), *_listed(unlocked_body(name, message))):
        yield from _walk(signature)


def _carried_by(message: Any) -> list[Any]:
    return [part for key in _IN_MESSAGE for part in _listed(message.body[2].get(key))]


def _walk(signature: Any) -> Iterator[Mapping[str, Any]]:
    """Yield a signature and all that it carries."""
    if not isinstance(signature, Mapping):
        return
    yield signature
    carried = [part for key in _IN_OPTIONS for part in _listed(_options_of(signature).get(key))]
    if signature.get("subtask_type") in _CONTAINERS:
        kwargs = signature.get("kwargs") or {}
        carried += [part for key in _IN_KWARGS for part in _listed(kwargs.get(key))]
    for part in carried:
        yield from _walk(part)


def _options_of(signature: Mapping[str, Any]) -> Mapping[str, Any]:
    return signature.get("options") or {}


def first_of_body(body: Any, task_id: str) -> tuple[Membership, ...]:
    """Return the members that a chord's body begins with, if this task's message holds their ids."""
    if isinstance(body, Mapping) and body.get("subtask_type") in ("chain", "group"):
        parts = _listed(body["kwargs"].get("tasks"))
        first = parts[:1] if body["subtask_type"] == "chain" else parts
    else:
        first = [body]
    identities = [_identity_of(signature, task_id) for signature in first]
    return tuple(each for each in identities if isinstance(each, Membership))


def chord_of(request: Any) -> Any:
    """Return the body of the chord that a task, or the last one of its chain, belongs to; or None."""
    return request.chord or next(filter(None, map(_chord_behind, _listed(request.chain))), None)


def _chord_behind(signature: Any) -> Any:
    """Return the chord that a signature ends in, but none that begins in it; or None."""
    if not isinstance(signature, Mapping):
        return None
    kwargs = signature.get("kwargs") or {}
    last = {"chain": "tasks", "group": "tasks", "chord": "body"}.get(signature.get("subtask_type") or "", "")
    parts = _listed(kwargs.get(last)) if last else []
    found = _options_of(signature).get("chord")
    return found or next(filter(None, map(_chord_behind, parts)), None)


def _identity_of(signature: Any, task_id: str) -> object:
    if not isinstance(signature, Mapping) or signature.get("subtask_type") in _CONTAINERS:
        return None
    options = _options_of(signature)
    return read_header(read_tag(options.get("headers"), task_id), options.get("task_id"))


class _Tags:
    """Tags the signatures in one message; a signature that is in several places is copied once."""

    def __init__(self, member: Membership, replaced: Membership | None) -> None:
        successor = Membership(bid=member.bid, index=None, task_id="", of=member.origin)
        self._tag = header_of(successor) | {"by": member.task_id}
        self._replaced = replaced
        self._copies: dict[int, Any] = {}

    def add_to(self, carried: Any) -> Any:
        """Return a tagged copy of one signature or of several."""
        if not isinstance(carried, Mapping):
            return [self._copy_once(signature) for signature in carried]
        return self._copy_once(carried)

    def _copy_once(self, signature: Any) -> Any:
        if not isinstance(signature, Mapping):
            return signature
        key = id(signature)
        if key not in self._copies:
            self._copies[key] = self._copy(signature)
        return self._copies[key]

    def _copy(self, signature: Mapping[str, Any]) -> dict[str, Any]:
        options = dict(_options_of(signature))
        options.update({k: self.add_to(options[k]) for k in _IN_OPTIONS if options.get(k)})
        kwargs = signature.get("kwargs") or {}
        container = signature.get("subtask_type") in _CONTAINERS
        if container:
            kwargs = {
                **kwargs,
                **{k: self.add_to(kwargs[k]) for k in _IN_KWARGS if kwargs.get(k) is not None},
            }
        # A container's own headers override its parts' headers. So a container without headers is not tagged:
        # that would erase what the user wrote on the parts.
        if not container or options.get("headers"):
            options["headers"] = self._tag_headers(options.get("headers") or {}, options.get("task_id"))
        return {**signature, "options": options, "kwargs": kwargs}

    def _tag_headers(self, headers: Headers, task_id: object) -> Headers:
        tag = self._tag | self._turn(headers.get(HEADER), task_id)
        tagged = {**headers, HEADER: tag}
        if isinstance(headers.get("headers"), dict):
            tagged["headers"] = {**headers["headers"], HEADER: tag}
        return tagged

    def _turn(self, tag: object, task_id: object) -> Headers:
        """Count the members under one id: a canvas's last part has the id of the task that it replaces."""
        if self._replaced is not None and task_id == self._replaced.task_id:
            return {"turn": self._replaced.turn + 1}
        turn = tag.get("turn") if isinstance(tag, dict) and tag.get("bid") == self._tag["bid"] else None
        return {"turn": turn} if turn else {}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return [value] if isinstance(value, Mapping) else list(value)
