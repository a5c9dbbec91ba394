"""One delivery, in plain Python and without a store: a part of the model of batches."""

from __future__ import annotations

from dataclasses import dataclass

LOST_AT_MOST = 8


@dataclass(slots=True)
class Delivery:
    """One entry of the outbox.

    While it is due, it is due `now`, leased to somebody (`lease`), or `later`; while it is published, it was
    `heard` of lately, or is `silent`.
    """

    state: str = "due"
    attempts: int = 0
    when: str = "lease"

    @property
    def open(self) -> bool:
        return self.state in ("due", "published")

    @property
    def ripe(self) -> bool:
        return self.state == "due" and self.when == "now"

    @property
    def silent(self) -> bool:
        return self.state == "published" and self.when == "silent"

    @property
    def may_go_again(self) -> bool:
        """What is on its way is left to the one who has it."""
        return not self.open or (self.state == "due" and self.when == "later")

    def settle(self, happened: str, attempt: int) -> str:
        """Note what became of an attempt, 0 being the present one; return what that was."""
        if not self._is_new(happened, attempt):
            return "repeated"
        numbered = max(attempt, self.attempts, 1)  # what has ended was tried
        if happened == "published" and not self.open:
            self.attempts = numbered  # it ended before this was said
            return "settled"
        if happened == "postponed" and self.state == "published":
            numbered -= 1  # it was not tried
        if happened == "lost" and self.attempts >= LOST_AT_MOST:
            happened = "given_up"
        again = {"postponed": "due", "lost": "due", "retried": "published", "silent": "given_up"}
        self.state, self.attempts = again.get(happened, happened), numbered
        self.when = "heard" if self.state == "published" else "later"
        return "given_up" if self.state == "given_up" else "settled"

    def _is_new(self, happened: str, attempt: int) -> bool:
        newer, published = attempt > self.attempts, self.state == "published"
        if happened == "delivered":
            return self.state != "delivered"  # an arrival always counts
        if happened == "published":
            return newer and not published
        if not self.open:
            return False
        if happened in ("due", "postponed"):  # once per attempt
            return newer or (published and attempt in (0, self.attempts))
        if happened in ("lost", "retried", "silent"):  # of a task that was sent
            heard = self.when == "heard" and happened == "silent"
            return published and attempt in (0, self.attempts) and not heard
        return True
