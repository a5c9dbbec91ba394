"""One delivery, in plain Python and without a store: a part of the model of batches."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class Delivery:
    """One entry of the outbox. While it is due, it is due `now`, leased to somebody (`lease`), or `later`."""

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
    def may_go_again(self) -> bool:
        """What is on its way is left to the one who has it."""
        return not self.open or (self.state == "due" and self.when == "later")

    def settle(self, happened: str, attempt: int) -> bool:
        """Note what became of an attempt, 0 being the present one; return whether that was new."""
        if not self._is_new(happened, attempt):
            return False
        self.attempts = attempt - 1 if happened == "postponed" else max(attempt, self.attempts)
        self.state = "due" if happened in ("due", "postponed") else happened
        self.when = "later"
        return True

    def _is_new(self, happened: str, attempt: int) -> bool:
        if happened == "delivered":
            return self.state != "delivered"  # an arrival always counts
        if not self.open:
            return False
        newer = attempt > self.attempts
        if happened == "published":
            return self.state == "due" and newer
        if happened == "postponed":  # before it was tried
            return self.state == "published" and attempt >= self.attempts
        if happened == "due":  # once per attempt
            return newer or (self.state == "published" and attempt in (0, self.attempts))
        return True
