"""What a batch is, in plain Python and without a store: the model that the scripts are compared with.

Written from the design (what the counts mean, what the store holds), for clearness, not for speed: counts are
counted, never kept. Nothing here waits: a batch's life is whole, or `low` when more than half of it has gone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from celery_batches_notify.membership import State
from tests.store.model_of_deliveries import Delivery
from tests.store.model_of_members import NEVER_PUBLISHED, Member, Report

FAILURES_KEPT, RETRIES_KEPT, LAST_ROUND = 2, 2, 15
FIRING_ORDER = ("cancel", "progress", "death", "complete", "finish", "success")
TOKENS = {"complete": "!", "success": "$"}
PARENT = "parent:0"
TOO_MANY, NOT_JSON, LAST_ROUND_OVER = "too many dead", "not JSON", "it was sent again 15 times"

Adder = Literal["owner", "other"] | tuple[int, str]
Claim = tuple[str, int, bool, bool, int]  # entry, attempts so far, whether silent, whether the last, number


@dataclass(slots=True, kw_only=True)
class ModelBatch:
    """One batch."""

    bid: str
    callbacks: Mapping[str, Sequence[float]]
    keep_open: bool = False
    parent: str | None = None
    place: int = 0
    members: list[Member] = field(default_factory=list)
    sealed: bool = False
    cancelled: bool = False
    had_death: bool = False
    fired: list[str] = field(default_factory=list)
    outbox: dict[str, Delivery] = field(default_factory=dict)
    parent_state: tuple[State, bool] = (State.WAITING, False)
    parent_version: int = 0
    failures: set[frozenset[int]] = field(default_factory=lambda: {frozenset()})
    sending: Literal["", "lease", "now"] = ""
    tokens: str = ""
    life: str = "running"
    low: bool = False
    retired: bool = False
    unconfirmed: dict[int, int] = field(default_factory=dict)
    whole: bool = False
    abandoned: bool = False
    cut_short: bool = False
    awaited: Literal["", "later", "now"] = ""

    # -- what is true of it ---------------------------------------------------------------------

    def count(self, state: State) -> int:
        return sum(member.state is state for member in self.members)

    @property
    def complete(self) -> bool:
        return self.sealed and all(m.state is not State.WAITING for m in self.members)

    @property
    def ended(self) -> bool:
        return self.sealed and all(m.ended for m in self.members)

    @property
    def successful(self) -> bool:
        return self.sealed and not self.cut_short and all(m.state is State.SUCCEEDED for m in self.members)

    @property
    def unsendable(self) -> dict[str, int]:
        """How many of the dead cannot be sent again, and why."""
        return dict(Counter(member.why for member in self.members if member.why))

    @property
    def open_deliveries(self) -> int:
        return sum(delivery.open for delivery in self.outbox.values())

    @property
    def over(self) -> bool:
        """Nothing is left to do for the sweeper."""
        return self.ended and not self.open_deliveries

    @property
    def has_due(self) -> bool:
        ripe = any(d.ripe or d.silent for d in self.outbox.values())
        return ripe or (self.open_deliveries > 0 and self.low)

    @property
    def as_member(self) -> State:
        """What it is in its parent. Complete once, it never waits again, whatever is added."""
        if self.successful:
            return State.SUCCEEDED
        if self.ended:
            return State.DEAD
        return State.FAILING if "complete" in self.fired else State.WAITING

    @property
    def state(self) -> str:
        if "success" in self.fired:
            return "success"
        if self.cancelled:
            return "cancelled"
        if self.ended:
            return "dead"
        if "complete" in self.fired:
            return "complete"
        return "running" if self.sealed else "open"

    # -- what happens to it ---------------------------------------------------------------------

    def enrol(
        self, first: int, ids: Sequence[str], adder: Adder, *, are_batches: bool, last: bool = False
    ) -> int | None:
        """Return where they stand, or None where the batch takes no more."""
        here = [m.task_id for m in self.members]
        if self.abandoned and adder == "owner":
            return None
        if here[first : first + len(ids)] == list(ids):
            self.await_producers()
            return first
        if are_batches and ids[0] in here:
            return here.index(ids[0])
        if not self._lets_add(adder):
            return None
        self.members += [Member(task_id=i, is_batch=are_batches) for i in ids]
        self.unconfirmed[len(here)] = len(ids)
        if adder == "owner":
            self.whole = last
        self.await_producers()
        self.move()
        return len(here)

    def _lets_add(self, adder: Adder) -> bool:
        if isinstance(adder, str):
            return not self.sealed and (adder == "owner" or self.keep_open)
        index, task_id = adder
        known = index < len(self.members) and self.members[index].task_id == task_id
        return (not self.sealed and self.keep_open) or (known and not self.members[index].ended)

    def seal(self, firsts: Sequence[int] = ()) -> tuple[str, list[str]]:
        word = "abandoned" if self.abandoned else "already" if self.sealed else "sealed"
        if word != "sealed" and not firsts:
            return word, []
        self.sealed = True
        self._forget(firsts, awaited=not self.abandoned)
        return word, self.move()

    # -- its producers --------------------------------------------------------------------------

    def await_producers(self) -> None:
        """They are there: until when they are waited for, if at all, begins anew."""
        waits = bool(self.unconfirmed) if self.sealed else not self.keep_open
        self.awaited = "later" if waits else ""

    def confirm(self, firsts: Sequence[int], who: str) -> bool:
        """Return whether the batch is still theirs."""
        theirs = not (self.abandoned and who == "owner")
        self._forget(firsts, awaited=theirs and who != "sweeper")
        self.move()
        return theirs

    def _forget(self, firsts: Sequence[int], *, awaited: bool) -> None:
        for first in firsts:
            self.unconfirmed.pop(first, None)
        if awaited or not self.unconfirmed:
            self.await_producers()

    def abandon(self) -> tuple[str, list[str]]:
        """Give up producers whose time has come."""
        if self.awaited != "now":
            return "awaited", []
        if not self.sealed:
            self.sealed = self.abandoned = True
            self.cut_short = not self.whole
            self.had_death |= self.cut_short and not self.cancelled
        if not self.unconfirmed:
            self.awaited = ""
        return "abandoned", self.move()

    def never_published(self) -> list[tuple[int, list[Report]]]:
        """What a sweeper says of each unconfirmed chunk."""
        said = []
        for first, count in self.unconfirmed.items():
            places = range(first, first + count)
            waiting = [i for i in places if self.members[i].state is State.WAITING]
            reports = [
                Report(
                    index=i,
                    task_id=self.members[i].task_id,
                    state=State.DEAD,
                    reason=NEVER_PUBLISHED,
                    sendable=False,
                )
                for i in waiting
            ]
            said.append((first, reports))
        return said

    def cancel(self) -> tuple[str, list[str]]:
        if self.cancelled:
            return "already", []
        self.cancelled, self.retired = True, False
        return "cancelled", self._fire("cancel") + self.move()

    def report(self, report: Report) -> tuple[str, list[str]]:
        """Count it, unless it says nothing new."""
        if report.index >= len(self.members) or self.members[report.index].task_id != report.task_id:
            return "stranger", []
        member = self.members[report.index]
        if not member.learns_from(report):
            return "repeated", []
        if report.state is State.SUCCEEDED:
            self.tokens += "+"
        elif report.stamp > member.stamp:
            self.tokens += "-"
            member.stamp = report.stamp
        before, member.state = member.state, report.state
        self.retired = False
        self._keep(report, member, before)
        return "counted", self.move()

    def _keep(self, report: Report, member: Member, before: State) -> None:
        """Keep what a reader of the failures and a later retry will need."""
        if report.state is State.SUCCEEDED:
            self.failures = {kept - {report.index} for kept in self.failures}
            member.kept, member.why = None, ""
            return
        self.failures = {now for kept in self.failures for now in self._with_failure(kept, report)}
        if member.stamp[0] >= LAST_ROUND and member.kept == 0:
            member.kept, before = None, State.FAILING  # void: there is no round to send it in
        if report.state is State.DEAD:
            discarded = report.reason == "cancelled" or (
                self.cancelled and report.reason in ("revoked", NEVER_PUBLISHED)
            )
            self.had_death |= not discarded
            self._keep_call(report, member, before)
        else:
            member.why = ""

    def _keep_call(self, report: Report, member: Member, before: State) -> None:
        """Keep the call of a dead member, if it is known and there is room; else why there is none."""
        over = member.stamp[0] >= LAST_ROUND
        room = member.kept is not None or sum(m.kept is not None for m in self.members) < RETRIES_KEPT
        if report.sendable and room and not over:
            member.kept, member.why = 0, ""
        elif member.kept == 0 or before is State.DEAD:
            return  # what was known of its call still holds
        elif not member.is_batch or report.reason == NEVER_PUBLISHED:
            why = LAST_ROUND_OVER if over else TOO_MANY if report.sendable else NOT_JSON
            why = NEVER_PUBLISHED if report.reason == NEVER_PUBLISHED else why
            member.kept, member.why = None, why

    def _with_failure(self, kept: frozenset[int], report: Report) -> list[frozenset[int]]:
        """Every way to keep one more: without room, a dead one's record evicts any failing one's."""
        if report.index in kept or len(kept) < FAILURES_KEPT:
            return [kept | {report.index}]
        failing = [i for i in kept if self.members[i].state is State.FAILING]
        if report.state is not State.DEAD or not failing:
            return [kept]
        return [kept - {i} | {report.index} for i in failing]

    def record_death(self) -> list[str]:
        self.retired &= self.had_death
        self.had_death = True
        return self.move()

    # -- another round --------------------------------------------------------------------------

    def claim_retries(self) -> set[tuple[int, int]] | None:
        """Return the places and rounds of those to be sent again; None where it was cancelled."""
        if self.cancelled:
            return None
        self.retired = False
        claimed = set()
        for index, member in enumerate(self.members):
            if member.state is State.DEAD and member.kept == 0:  # one that has no round left is not kept
                member.kept = member.stamp[0] + 1
                member.stamp = (member.kept, 0)
                member.state = State.FAILING
                claimed.add((index, member.kept))
        if claimed:
            self.sending = "lease"
        self.move()
        return claimed

    def confirm_retries(self, sent: Sequence[tuple[int, int]], *, done: bool) -> None:
        for index, round_ in sent:
            if self.members[index].kept == round_:
                self.members[index].kept = None
        if done:
            self.sending = ""
        self.move()

    def unsent_retries(self) -> list[tuple[int, int]]:
        return [(i, m.kept) for i, m in enumerate(self.members) if m.kept]

    # -- its deliveries -------------------------------------------------------------------------

    def claim_deliveries(self) -> list[Claim]:
        """Take what is due, and name what is silent, in the order in which it fired."""
        events = [f"{e}:{n}" for e in FIRING_ORDER for n in range(len(self.callbacks.get(e, ())))]
        taken = [e for e in (*events, PARENT) if (d := self.outbox.get(e)) and (d.ripe or d.silent)]
        claims = [(entry, *self.outbox[entry].claim()) for entry in taken]
        self.move()
        return claims

    def settle(self, entry: str, happened: str, attempt: int, number: int = 0) -> str:
        """Note what became of one attempt; 0 is the present one, and the claim that nobody knows."""
        delivery = self.outbox.get(entry)
        if delivery is None:
            return "unknown"
        if entry == PARENT and attempt != delivery.attempts:
            return "repeated"  # what it reported has changed since
        if (word := delivery.settle(happened, attempt, number)) != "repeated":
            self.move()
        return word

    def redeliver(self, event: str, *, ended: bool) -> list[str]:
        self.retired = False
        again = []
        for n in range(len(self.callbacks.get(event, ()))):
            delivery = self.outbox.get(f"{event}:{n}")
            if delivery and delivery.may_go_again(ended=ended):
                self._announce(f"{event}:{n}")
                again.append(f"{event}:{n}")
        return again + self.move()

    def _announce(self, entry: str, attempts: int = 0) -> None:
        before = self.outbox.get(entry)
        self.outbox[entry] = Delivery(attempts=attempts, number=before.number + 1 if before else 1)

    # -- what follows of itself -----------------------------------------------------------------

    def move(self) -> list[str]:
        """Fire what has become true, tell the parent, live on; return the deliveries that this made due."""
        due = []
        if self.sealed:
            share = sum(m.ended for m in self.members) / len(self.members) if self.members else 1.0
            due += self._fire_shares(share)
        for event, true in (
            ("death", self.sealed and self.had_death),
            ("complete", self.complete),
            ("finish", self.ended),
            ("success", self.successful),
        ):
            if true:
                due += self._fire(event)
        if self.parent and self.parent_state != (self.as_member, self.had_death):
            self.parent_state = (self.as_member, self.had_death)
            self.parent_version += 1
            self._announce(PARENT, self.parent_version)
            due.append(PARENT)
        self._renew()
        return due

    def _fire(self, event: str) -> list[str]:
        if event in self.fired:
            return []
        self.fired.append(event)
        self.tokens += TOKENS.get(event, "")
        due = [f"{event}:{n}" for n in range(len(self.callbacks.get(event, ())))]
        self.outbox |= {entry: Delivery() for entry in due}
        return due

    def _fire_shares(self, reached: float) -> list[str]:
        due = []
        for n, share in enumerate(self.callbacks.get("progress", ())):
            if reached >= share and f"progress:{n}" not in self.outbox:
                due.append(f"progress:{n}")
                self.outbox[due[-1]] = Delivery()
                if "progress" not in self.fired:
                    self.fired.append("progress")
        return due

    def _renew(self) -> None:
        """A running batch lives on whenever it moves; one that is over, from its end on."""
        kind = "running" if not self.over else "success" if self.successful else "dead"
        if kind != self.life or (kind == "running" and self.low):
            self.life, self.low = kind, False
