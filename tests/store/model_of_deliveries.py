"""One delivery, in plain Python and without a store: a part of the model of batches.

Written from the promise: a delivery that has not ended is due, and a sweeper finds it, or it was published
under its present claim, and its task will say how it ended, or nothing is heard of it for too long. Whoever
takes it for publishing has a claim with a number, and the message bears it. Only the holder of the present
claim moves it, and a report that knows no number moves only what is published. A message that is lost is sent
again, whether or not its publisher has said that it left. That it arrived always counts.
"""

from __future__ import annotations

from dataclasses import dataclass

LOST_AT_MOST = 8


@dataclass(slots=True)
class Delivery:
    """One entry of the outbox.

    While it is due, it is due `now`, leased to somebody (`lease`), or `later`; while it is published, it was
    `heard` of lately, or is `silent`. Once its time is over it is `late`, and its next attempt is the `last`.
    """

    state: str = "due"
    attempts: int = 0
    when: str = "lease"
    number: int = 1
    late: bool = False
    last: bool = False

    @property
    def open(self) -> bool:
        return self.state in ("due", "published")

    @property
    def ripe(self) -> bool:
        return self.state == "due" and (self.when == "now" or (self.late and not self.last))

    @property
    def silent(self) -> bool:
        return self.state == "published" and self.when == "silent"

    def may_go_again(self, *, ended: bool) -> bool:
        """What is on its way is left to the one who has it."""
        if self.state == "published":
            return self.when == "silent"
        if self.state == "due":
            return self.when != "lease"
        return ended or self.state == "given_up"

    def claim(self) -> tuple[int, bool, bool, int]:
        """Take it, if it is not silent; return the claim: attempts so far, silent, last, number."""
        if not self.silent:
            self.number, self.when = self.number + 1, "lease"
            self.last |= self.late
        return self.attempts, self.silent, self.last and not self.silent, self.number

    def settle(self, happened: str, attempt: int, number: int = 0) -> str:
        """Note what became of an attempt, 0 being the present one; return what that was."""
        if number not in (0, self.number) and happened != "delivered":
            return "repeated"  # somebody else has it now
        if not self._is_new(happened, attempt, holds_it=number > 0):
            return "repeated"
        was_given_up = self.state == "given_up"
        numbered = max(attempt, self.attempts, 1)  # what has ended was tried
        if happened == "published" and not self.open:
            self.attempts = numbered  # it ended before this was said
            return "settled"
        if happened == "postponed":
            numbered = attempt - 1  # it was not tried
        if happened == "lost" and self.state == "due":
            numbered = self.attempts + 1  # its task ended before its publisher said that it left
        if happened == "lost" and numbered >= LOST_AT_MOST:
            happened = "given_up"
        again = {"postponed": "due", "lost": "due", "retried": "published", "silent": "given_up"}
        self.state, self.attempts = again.get(happened, happened), numbered
        if self.state == "due" and self.last:
            self.state = "given_up"
        if self.state == "due":
            self.number += 1
        self.when = "heard" if self.state == "published" else "later"
        return "given_up" if self.state == "given_up" and not was_given_up else "settled"

    def _is_new(self, happened: str, attempt: int, *, holds_it: bool) -> bool:
        newer, published = attempt > self.attempts, self.state == "published"
        present = published and attempt in (0, self.attempts)
        if happened == "delivered":
            return self.state != "delivered"  # an arrival always counts
        if happened == "published":
            return newer and not published
        if not self.open:
            return False
        if happened == "due":  # once per attempt
            return holds_it or newer or present
        if happened == "postponed" or (happened == "lost" and holds_it):
            return holds_it
        if happened in ("lost", "retried", "silent"):  # of a task that was sent
            heard = self.when == "heard" and happened == "silent"
            return present and not heard
        return True
