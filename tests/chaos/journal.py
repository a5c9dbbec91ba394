"""What really happened, in its order, written down by every process without the product.

Each happening is one line, appended by one write, so the place of a line is a clock that all processes of
this machine share: whatever stands after the last member's line happened after it.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

JOURNAL = "CHAOS_JOURNAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One happening: at which place in the journal, what, of which batch, whose, and more words."""

    tick: int
    kind: str
    bid: str
    id: str
    words: Sequence[str]


class Journal:
    """The file that holds them."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self.path.touch()

    def note(self, kind: str, bid: str, id_: str, *words: object) -> None:
        """Append one happening."""
        line = "\t".join(map(str, (kind, bid, id_, *words))) + "\n"
        fd = os.open(self.path, os.O_WRONLY | os.O_APPEND)
        try:
            os.write(fd, line.encode())
        finally:
            os.close(fd)

    def read(self) -> list[Entry]:
        """Read all that happened so far."""
        text = self.path.read_text()
        lines = text[: text.rfind("\n") + 1].splitlines()  # the last may be half written
        parts = [line.split("\t") for line in lines]
        return [Entry(tick=n, kind=p[0], bid=p[1], id=p[2], words=p[3:]) for n, p in enumerate(parts)]


def note(kind: str, bid: str, id_: str, *words: object) -> None:
    """Append one happening to the journal that the environment names."""
    Journal(os.environ[JOURNAL]).note(kind, bid, id_, *words)
