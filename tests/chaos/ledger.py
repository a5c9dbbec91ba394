"""The ledger of one batch: what was asked, ran, was reported and was counted; and where they disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from celery_batches_notify.membership import State
from celery_batches_notify.model import BatchStatus
from tests.chaos.journal import Entry

ENDS = ("ok", "die")
RUNS = (*ENDS, "raise")
BROKEN_LINES = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One batch as it was asked for: its members' ids and how each was told to end, and what was declared."""

    bid: str
    members: Mapping[str, str]
    events: Sequence[str]


@dataclass(slots=True, kw_only=True)
class MemberLine:
    """One member's line."""

    id: str
    kind: str
    starts: int = 0
    ends: Counter[str] = field(default_factory=Counter)
    reports: Counter[str] = field(default_factory=Counter)
    state: State | None = None
    first_start: int | None = None
    first_run: int | None = None
    first_end: int | None = None

    def ran_at(self, *, may_lose: bool) -> int:
        """When it had run once: to its end, or until its worker was lost, where that counts too."""
        if may_lose and self.starts > self.ends.total():
            return self.first_start or -1
        return -1 if self.first_run is None else self.first_run

    def __str__(self) -> str:
        ran = " ".join(f"{kind}*{n}" for kind, n in self.ends.items()) or "no end"
        said = " ".join(f"{word}*{n}" for word, n in sorted(self.reports.items())) or "none"
        state = self.state.name.lower() if self.state is not None else "not enrolled"
        return f"{self.id} ({self.kind}): executions {self.starts} [{ran}], reports [{said}], counted {state}"


@dataclass(slots=True, kw_only=True)
class Ledger:
    """All that is known of one batch."""

    asked: Asked
    status: BatchStatus
    lines: dict[str, MemberLine]
    called: dict[str, list[Entry]]
    tokens: str
    token_ticks: dict[str, int]

    def summary(self) -> str:
        """One line."""
        runs = sum(line.starts for line in self.lines.values())
        reports = Counter(
            word.split()[-1] for line in self.lines.values() for word in line.reports.elements()
        )
        told = ", ".join(f"{name.rsplit('_', 2)[1]}*{len(calls)}" for name, calls in self.called.items())
        tokens = " ".join(f"{token}{n}" for token, n in sorted(Counter(self.tokens).items()))
        return (
            f"{self.asked.bid}: {len(self.lines)} members, {runs} executions, reports {dict(reports)}, "
            f"counted {self.status.succeeded} succeeded {self.status.dead} dead, tokens {tokens}, "
            f"called {told or 'nobody'}"
        )

    def unended(self) -> set[str]:
        """The ids of those that have not ended, and of callbacks that have fired and called nobody."""
        members = {line.id for line in self.lines.values() if line.state in (State.WAITING, State.FAILING)}
        fired = {
            f"cb_{self.asked.bid}_{c.event}_{c.n}" for c in self.status.callbacks if c.state == "published"
        }
        return members | (fired - self.called.keys())

    def faults(self, *, may_lose: bool, heard_all: bool, vanished: frozenset[str] = frozenset()) -> list[str]:
        """Everything that is wrong; nothing is, where this is empty.

        Args:
            may_lose: Whether members may be dead because their worker was lost.
            heard_all: Whether no token can have been missed.
            vanished: Ids of messages that the broker itself lost.
        """
        suspects = [
            line
            for line in self.lines.values()
            if line.id not in vanished and not _is_exact(line, may_lose=may_lose)
        ]
        wrong = [f"LOST or WRONG: {line}" for line in suspects[:BROKEN_LINES]]
        wrong += self._untold(vanished)
        wrong += self._double(heard_all=heard_all and not vanished & self.lines.keys())
        wrong += self._early(may_lose=may_lose)
        return wrong

    def _untold(self, vanished: frozenset[str]) -> Iterable[str]:
        halted = not self.lines.keys().isdisjoint(vanished)
        for event in self._due_events():
            id_ = f"cb_{self.asked.bid}_{event}_0"
            if id_ not in self.called and id_ not in vanished and not halted:
                yield f"LOST: {self.asked.bid} told nobody of {event}"
        if halted and self.status.success_at is not None:
            yield f"EARLY: {self.asked.bid} succeeded without those that vanished"

    def _double(self, *, heard_all: bool) -> Iterable[str]:
        status, states = self.status, Counter(line.state for line in self.lines.values())
        counted = (status.total, status.succeeded, status.dead)
        if counted != (len(self.lines), states[State.SUCCEEDED], states[State.DEAD]):
            yield f"DOUBLE: counters {counted} beside states {dict(states)}"
        tokens = Counter(self.tokens)
        if tokens["+"] > status.succeeded or tokens["!"] > 1 or tokens["$"] > 1:
            yield f"DOUBLE: tokens {dict(tokens)}"
        if heard_all and (tokens["+"], tokens["!"]) != (status.succeeded, 1):
            yield f"LOST: tokens {dict(tokens)} of {status.succeeded} successes"
        known = {f"cb_{self.asked.bid}_{event}_0" for event in self.asked.events}
        for stranger in self.called.keys() - known:
            yield f"DOUBLE: called under an id of its own: {stranger}"

    def _early(self, *, may_lose: bool) -> Iterable[str]:
        last_run = max((line.ran_at(may_lose=may_lose) for line in self.lines.values()), default=-1)
        last_end = max((line.first_end or -1 for line in self.lines.values()), default=-1)
        after = {"complete": last_run, "finish": last_end, "success": last_end, "!": last_run, "$": last_end}
        firsts = {name.rsplit("_", 2)[1]: calls[0].tick for name, calls in self.called.items()}
        for what, tick in {**firsts, **self.token_ticks}.items():
            if tick < after.get(what, -1):
                yield f"EARLY: {what} at {tick}, and a member ran until {after[what]}"

    def _due_events(self) -> Iterable[str]:
        for event in self.asked.events:
            happened = {"success": self.status.dead == 0, "death": self.status.dead > 0}.get(event, True)
            if happened:
                yield event


def _is_exact(line: MemberLine, *, may_lose: bool) -> bool:
    if line.kind == "die":
        return line.state == State.DEAD
    if line.ends["ok"] == 0 or line.state != State.SUCCEEDED:
        return may_lose and line.state == State.DEAD
    return True


def write_ledger(
    asked: Asked, status: BatchStatus, states: Mapping[str, State], journal: Sequence[Entry]
) -> Ledger:
    """Put together what is known of one batch."""
    lines = {id_: MemberLine(id=id_, kind=kind, state=states.get(id_)) for id_, kind in asked.members.items()}
    ledger = Ledger(asked=asked, status=status, lines=lines, called={}, tokens="", token_ticks={})
    for entry in journal:
        if entry.bid != asked.bid:
            continue
        if entry.kind == "token":
            ledger.tokens += entry.words[0]
            ledger.token_ticks.setdefault(entry.words[0], entry.tick)
        elif entry.kind == "called":
            ledger.called.setdefault(entry.id, []).append(entry)
        elif entry.id in lines:
            _enter(lines[entry.id], entry)
    return ledger


def _enter(line: MemberLine, entry: Entry) -> None:
    if entry.kind == "start":
        line.starts += 1
        line.first_start = entry.tick if line.first_start is None else line.first_start
    elif entry.kind == "report":
        line.reports[" ".join(entry.words)] += 1
    else:
        line.ends[entry.kind] += 1
    if entry.kind in RUNS and line.first_run is None:
        line.first_run = entry.tick
    if entry.kind in ENDS and line.first_end is None:
        line.first_end = entry.tick
