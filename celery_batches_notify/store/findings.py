"""The findings of the start-up checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """A problem that a start-up check found.

    Attributes:
        severity: `error` if batches cannot work, `warning` if they may be late or lost some day.
        subject: Its subject in one or two words, such as `eviction`.
        words: The problem, its consequence, and what to do.
    """

    severity: Literal["error", "warning"]
    subject: str
    words: str
