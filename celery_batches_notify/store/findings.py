"""What a check of the surroundings found: how bad it is, and words that name the mend."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be.

    Attributes:
        severity: `error` where batches cannot work, `warning` where they may be late or lost some day.
        subject: In one or two words what it is about, such as `eviction`.
        words: What is so, what comes of it, and what to do.
    """

    severity: Literal["error", "warning"]
    subject: str
    words: str
