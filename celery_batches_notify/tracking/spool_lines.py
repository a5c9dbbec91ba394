"""What stands in the spool: JSON, one line per outcome or settlement, checked when it is read. Pure."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

from celery_batches_notify.log_lines import Fields
from celery_batches_notify.model import DeliveryAttempt, Failure, Membership, Outcome, State, check_bid
from celery_batches_notify.tracking.headers import ENTRY

VERSION = 1
HAPPENED = ("due", "delivered", "given_up")
NUMBER_AT_MOST = 2**31


class UnreadableLine(ValueError):
    """A line of the spool is not one that we write: torn, of another version, or somebody else's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """An outcome that waits to be counted."""

    member: Membership
    outcome: Outcome

    @property
    def bid(self) -> str:
        """The batch."""
        return self.member.bid

    @property
    def name(self) -> str:
        """How a log line names it."""
        return f"the outcome of task {self.member.task_id}"

    @property
    def fields(self) -> Fields:
        """What a log line about it has in its fields."""
        return {"task_id": self.member.task_id, "state": self.outcome.state.name.lower()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settlement:
    """What became of a delivery, and waits to be noted."""

    bid: str
    entry: str
    happened: str
    delay_seconds: float = 0
    log: DeliveryAttempt | None = None

    @property
    def name(self) -> str:
        """How a log line names it."""
        return f"the outcome of callback {self.entry}"

    @property
    def fields(self) -> Fields:
        """What a log line about it has in its fields."""
        return {"delivery": self.entry, "state": self.happened}


Said = Report | Settlement


def pack_line(said: Said) -> bytes:
    """Write one line, without its end."""
    kind = "report" if isinstance(said, Report) else "settlement"
    return json.dumps({"v": VERSION, kind: asdict(said)}, separators=(",", ":")).encode()


def parse_line(line: bytes) -> Said:
    """Read one line; it is believed as little as a message is.

    Raises:
        UnreadableLine: It is none of ours.
    """
    try:
        match json.loads(line):
            case {"v": 1, "report": {"member": dict(member), "outcome": dict(outcome), **rest}} if not rest:
                return Report(member=_membership(member), outcome=_outcome(outcome))
            case {"v": 1, "settlement": dict(settlement)}:
                return _settlement(settlement)
    except (ArithmeticError, LookupError, RecursionError, TypeError, ValueError) as exc:
        raise UnreadableLine(f"{type(exc).__name__}: {exc}"[:200]) from None
    raise UnreadableLine("it is of no kind and version that this process knows")


def _membership(said: dict[str, Any]) -> Membership:
    of = said["of"]
    return Membership(
        bid=check_bid(said["bid"]),
        index=_number(said["index"]) if said["index"] is not None else None,
        task_id=_text(said["task_id"]),
        round=_number(said["round"]),
        of=(_number(of[0]), _text(of[1])) if of is not None else None,
        turn=_number(said["turn"]),
    )


def _outcome(said: dict[str, Any]) -> Outcome:
    state = State(_number(said["state"]))
    if state == State.WAITING:
        raise ValueError("waiting is no outcome")
    return Outcome(
        state=state,
        attempt=_number(said["attempt"]),
        reason=_text_or_none(said["reason"]),
        failure=_failure(said["failure"]) if said["failure"] is not None else None,
        resend=_text(said["resend"]),
        unsendable=_text(said["unsendable"]),
        successors=tuple(map(_membership, said["successors"])),
        body=tuple(map(_membership, said["body"])),
        breaks_chord=said["breaks_chord"] is True,
    )


def _failure(said: dict[str, Any]) -> Failure:
    return Failure(
        task_id=_text(said["task_id"]),
        task=_text(said["task"]),
        error_class=_text(said["error_class"]),
        error_message=_text(said["error_message"]),
        backtrace=_text_or_none(said["backtrace"]),
        retries=_number(said["retries"]),
    )


def _settlement(said: dict[str, Any]) -> Settlement:
    entry, happened, delay, log = (said[name] for name in ("entry", "happened", "delay_seconds", "log"))
    if not ENTRY.fullmatch(_text(entry)) or happened not in HAPPENED:
        raise ValueError(f"no such delivery or end: {entry!r}, {happened!r}"[:100])
    return Settlement(
        bid=check_bid(said["bid"]),
        entry=entry,
        happened=happened,
        delay_seconds=_number(int(delay)),
        log=_attempt(log) if log is not None else None,
    )


def _attempt(said: dict[str, Any]) -> DeliveryAttempt:
    code = said["status_code"]
    return DeliveryAttempt(
        event=_text(said["event"]),
        n=_number(said["n"]),
        channel=_text(said["channel"]),
        attempt=_number(said["attempt"]),
        outcome=_text(said["outcome"]),
        status_code=_number(code) if code is not None else None,
        detail=_text(said["detail"]),
    )


def _number(value: object) -> int:
    if type(value) is not int or not 0 <= value < NUMBER_AT_MOST:
        raise ValueError(f"no number that stands here: {value!r}"[:100])
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"no text: {value!r}"[:100])
    return value


def _text_or_none(value: object) -> str | None:
    return _text(value) if value is not None else None
