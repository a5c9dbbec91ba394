"""The actions of the page on a batch: each is planned and confirmed in figures, then checked and logged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl

from starlette.requests import Request

from celery_batches_notify.audit import note_action
from celery_batches_notify.bar import count_open
from celery_batches_notify.checks import check_event
from celery_batches_notify.engine import Engine
from celery_batches_notify.grouped_failures import GroupView, retry_group
from celery_batches_notify.model import BatchStatus
from celery_batches_notify.operations import cancel_batch, delete_batch, retry_batch
from celery_batches_notify.redelivery import redeliver_event
from celery_batches_notify.text import one_line
from celery_batches_notify.web.access import GRANTS, Access, FormTokens, find_forgery
from celery_batches_notify.web.answers import NOT_FOUND, Problem
from celery_batches_notify.web.view import BatchView, read_view

TYPED_ABOVE = 1000
FIELDS_AT_MOST = 20
NAMES = frozenset(GRANTS) - {"read"}
# What the forms of an action send besides, and the options of the command that are the same.
OPTIONS = {"retry": {"group": "--group"}, "redeliver": {"event": "--event", "n": "--number"}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """An action before the user confirms it.

    Attributes:
        status: The batch.
        name: The action, which is also the grant that it needs.
        words: The effect of the action, in figures.
        count: How many members the action concerns.
        command: The command that does the same in a terminal.
        fields: The values that the form sends back: which group of failures, or which event.
        token: The token that proves that the form is ours.
    """

    status: BatchStatus
    name: str
    words: str
    count: int
    command: str
    fields: Mapping[str, str]
    token: str

    @property
    def typed(self) -> bool:
        """Whether the user must type the action's name, because the action concerns so many members."""
        return self.count > TYPED_ABOVE


def _read_form(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode("utf-8", "replace"), max_num_fields=FIELDS_AT_MOST))
    except ValueError:
        raise Problem(
            400, "bad_form", f"A form has at most {FIELDS_AT_MOST} fields: this one is not ours."
        ) from None


class Actions:
    """The actions of one request.

    Args:
        engine: The app's.
        tokens: Makes and checks the forms' tokens.
        access: The rights of the user.
        behind_proxy: Whether our own proxy sets `X-Forwarded-Host`.
    """

    def __init__(self, engine: Engine, tokens: FormTokens, access: Access, *, behind_proxy: bool) -> None:
        self._engine = engine
        self._tokens = tokens
        self._access = access
        self._behind_proxy = behind_proxy

    def plan(self, bid: str, action: str, given: Mapping[str, str]) -> Plan:
        """Return the plan of an action. Raises `Problem`, and the errors of `read_view`."""
        self._check_grant(action)
        view = read_view(self._engine, bid)
        fields = {name: given[name] for name in OPTIONS.get(action, ()) if given.get(name)}
        words, count, command = self._say(view, action, fields)
        return Plan(
            status=view.status,
            name=action,
            words=words,
            count=count,
            command=command,
            fields=fields,
            token=self._tokens.make(self._access.user, action, bid),
        )

    def do(self, request: Request, bid: str, action: str, body: bytes) -> None:
        """Do an action that the user confirmed. Raises `Problem`, and the errors of `read_view`."""
        self._check_grant(action)
        if why := find_forgery(request, behind_proxy=self._behind_proxy):  # safety: forged-request
            raise Problem(403, "forged", f"This does not come from the page itself: {why}.")
        form = _read_form(body)
        if not self._tokens.fits(form.get("token", ""), self._access.user, action, bid):  # safety: form-token
            words = "The form is too old, or not ours: open it again."
            raise Problem(403, "stale_form", words)
        plan = self.plan(bid, action, form)
        if plan.typed and form.get("typed", "").strip().lower() != action:  # safety: typed-word
            words = f"Type {action} to confirm: this concerns {plan.count:,} members."
            raise Problem(400, "not_typed", words)
        count = self._run(bid, action, plan)
        note_action(self._engine, bid, action, self._access.user, count, plan.fields)

    def _check_grant(self, action: str) -> None:
        if action not in NAMES:
            raise NOT_FOUND
        if action not in self._access.grants:  # safety: grant-checked
            raise Problem(403, "forbidden", f"You may not {action} batches here.")

    def _run(self, bid: str, action: str, plan: Plan) -> int:
        engine = self._engine
        if action == "retry":
            if "group" not in plan.fields:
                return retry_batch(engine, bid)
            return retry_group(engine, bid, plan.fields["group"])
        if action == "cancel":
            cancel_batch(engine, bid, terminate=False)
        elif action == "seal":
            engine.publisher.publish(bid, engine.store.seal_batch(bid))
        elif action == "delete":
            delete_batch(engine, bid)
        else:
            event = check_event(plan.fields["event"])
            n = plan.fields.get("n")
            return redeliver_event(engine, bid, event, n=int(n) if n is not None else None)
        return plan.count

    def _say(self, view: BatchView, action: str, fields: Mapping[str, str]) -> tuple[str, int, str]:
        say: dict[str, Callable[[BatchView, Mapping[str, str]], tuple[str, int]]] = {
            "retry": _say_retry,
            "cancel": _say_cancel,
            "seal": _say_seal,
            "delete": _say_delete,
            "redeliver": _say_redeliver,
        }
        words, count = say[action](view, fields)
        options = OPTIONS.get(action, {})
        given = [f" {options[name]} {one_line(value, 20)}" for name, value in fields.items()]
        return words, count, f"batch {action} {view.status.bid}{''.join(given)}"


def _say_retry(view: BatchView, fields: Mapping[str, str]) -> tuple[str, int]:
    if view.status.cancelled_at is not None:
        raise Problem(409, "cancelled", "The batch was cancelled: its members are not sent again.")
    if "group" in fields:
        group = _find_group(view, fields["group"])
        return f"{_members(len(group.dead))} that failed with {group.group.title} will be sent again.", len(
            group.dead
        )
    unsendable = sum(view.status.unsendable.values())
    rest = f" {unsendable:,} of them cannot be: their calls were not kept." if unsendable else ""
    below = " Those of the batches below it, too." if view.status.children else ""
    return f"{_members(view.status.dead)} will be sent again.{rest}{below}", view.status.dead


def _say_cancel(view: BatchView, _: Mapping[str, str]) -> tuple[str, int]:
    left, children = count_open(view.status), view.status.children
    below = f" The {children:,} batches below it are cancelled, too." if children else ""
    return f"{_members(left)} will not run; those that run now finish.{below}", left


def _say_seal(view: BatchView, _: Mapping[str, str]) -> tuple[str, int]:
    if view.status.sealed_at is not None:
        raise Problem(409, "sealed", "The batch is sealed already.")
    return f"Nothing can be added any more to the {_members(view.status.total)} that it has.", 0


def _say_delete(view: BatchView, _: Mapping[str, str]) -> tuple[str, int]:
    below = f", and of {view.status.children:,} batches below it," if view.status.children else ""
    words = (
        f"The record of this batch{below} will be removed, with {_members(view.status.total)}. "
        f"{count_open(view.status):,} of them will run on and count nowhere. "
        "Its callbacks will not be called."
    )
    return words, view.status.total


def _say_redeliver(view: BatchView, fields: Mapping[str, str]) -> tuple[str, int]:
    if "event" not in fields:
        raise Problem(400, "no_event", "Say which event's callbacks to send again.")
    event = check_event(fields["event"])
    if "n" in fields and not (fields["n"].isascii() and fields["n"].isdigit() and len(fields["n"]) < 4):
        raise Problem(400, "no_such_callback", "There is no such callback.")
    n = fields.get("n")
    chosen = [c for c in view.status.callbacks if c.event == event and (n is None or c.n == int(n))]
    if not chosen:
        raise Problem(400, "no_such_callback", "There is no such callback.")
    targets = ", ".join(one_line(callback.target, 80) for callback in chosen)
    return f"What {event} calls will be sent again under the same ids: {targets}.", 0


def _find_group(view: BatchView, key: str) -> GroupView:
    found = next((group for group in view.groups if group.key == key), None)
    if found is None:
        raise Problem(404, "no_such_group", "There is no such kind of failures any more.")
    return found


def _members(count: int) -> str:
    return "1 member" if count == 1 else f"{count:,} members"
