"""The answers of the scripts: a word, and the deliveries that are due now."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """A delivery that its caller must see to: its entry in the outbox, and how many attempts it had before.

    The caller publishes it, unless it is `silent`: it was published, and nothing was heard of it for so long
    that it must be given up. After a `last` attempt none follows. Reports about a delivery carry the `number`
    of its claim, because only the present claim moves it; the first claim has the number 1.
    """

    entry: str
    attempts: int = 0
    silent: bool = False
    last: bool = False
    number: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """The answer of a script: a word (`counted`, `repeated` …), and the deliveries to publish."""

    word: str
    due: Sequence[Claim] = ()

    @property
    def entries(self) -> list[str]:
        """The entries of these deliveries in the outbox."""
        return [claim.entry for claim in self.due]


def first_claims(entries: Sequence[str]) -> list[Claim]:
    """Return the claims of deliveries that a script has just made due: its caller holds their first lease."""
    return [Claim(entry=entry) for entry in entries]


def parse_recorded(answer: Sequence[Any]) -> Recorded:
    """Read an answer of a word and the entries of deliveries."""
    return Recorded(word=answer[0], due=first_claims(answer[1:]))


def parse_claims(answer: Sequence[Any]) -> Recorded:
    """Read an answer of a word, then entry, attempts, `due`, `last` or `silent`, and number of each claim."""
    word, *parts = answer
    claims = [
        Claim(entry=entry, attempts=n, silent=kind == "silent", last=kind == "last", number=number)
        for entry, n, kind, number in zip(*[iter(parts)] * 4, strict=True)
    ]
    return Recorded(word=word, due=claims)
