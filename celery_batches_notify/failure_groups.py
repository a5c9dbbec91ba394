"""Groups failures of one kind, because 2,000 failures are often three errors. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from celery_batches_notify.text import one_line

if TYPE_CHECKING:
    from celery_batches_notify.model import Failure

NAME_CHARACTERS, MESSAGE_CHARACTERS = 80, 200

# Parts of a message that differ between failures with the same error.
_PARTICULARS = re.compile(
    r"""(?P<url>\b\w+://[^\s'"]+)
    |(?P<uuid>\b[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}\b)
    |(?P<path>(?<![\w.])/[\w.@+-]+(?:/[\w.@+-]+)+)
    |(?P<address>\b[\w.+-]+@[\w-]+(?:\.[\w-]+)+\b)
    |(?P<hex>\b0x[0-9a-f]+\b|\b(?=[a-f]*\d)[0-9a-f]{8,}\b)
    |(?P<number>\d+(?:[.,:]\d+)*)""",
    re.VERBOSE | re.IGNORECASE,
)
_FRAME = re.compile(r'^\s*File "(?P<path>[^"\n]+)", line (?P<line>\d+)(?:, in (?P<name>\S+))?', re.MULTILINE)
_NOT_THEIRS = re.compile(r"/(?:site|dist)-packages/|/lib/python3|^<")


@dataclass(frozen=True, slots=True, kw_only=True)
class FailureGroup:
    """Failures of one class in one task, at one place, with one message apart from ids and numbers.

    Attributes:
        failures: The failures, the oldest first.
        message: Their message, with `…` for each id and number.
        place: The last line of the user's own code, as `mailer.py:88`, or an empty string.
    """

    failures: tuple[Failure, ...]
    message: str
    place: str

    @property
    def count(self) -> int:
        """The number of failures."""
        return len(self.failures)

    @property
    def first(self) -> Failure:
        """The oldest failure."""
        return self.failures[0]

    @property
    def last(self) -> Failure:
        """The newest failure."""
        return self.failures[-1]

    @property
    def title(self) -> str:
        """The error and its task: `IntegrityError in import_row`."""
        return f"{_last_name(self.first.error_class)} in {_last_name(self.first.task)}"

    @property
    def counted(self) -> str:
        """The title, after the number of failures if there are several: `2 × KeyError in import_row`."""
        return f"{self.count:,} × {self.title}" if self.count > 1 else self.title


def group_failures(failures: Iterable[Failure]) -> tuple[FailureGroup, ...]:
    """Put failures of one kind together, the most frequent kind first."""
    groups: dict[tuple[str, ...], list[Failure]] = {}
    for each in failures:
        key = each.task, each.error_class, generalise(each.error_message), find_place(each.backtrace or "")
        groups.setdefault(key, []).append(each)
    found = [
        FailureGroup(failures=tuple(group), message=message, place=place)
        for (_, _, message, place), group in groups.items()
    ]
    return tuple(sorted(found, key=lambda group: -group.count))


def generalise(message: str) -> str:
    """Return a message on one line, with `…` for ids, numbers, paths and addresses."""
    return one_line(_PARTICULARS.sub("…", one_line(message, MESSAGE_CHARACTERS)), MESSAGE_CHARACTERS)


def find_place(backtrace: str) -> str:
    """Return the last line of a backtrace that is not a library's, as `mailer.py:88`, or an empty text."""
    frames = list(_FRAME.finditer(backtrace))
    theirs = [frame for frame in frames if not _NOT_THEIRS.search(frame["path"])] or frames
    if not theirs:
        return ""
    name = theirs[-1]["path"].replace("\\", "/").rpartition("/")[2]
    return one_line(f"{name}:{theirs[-1]['line']}", NAME_CHARACTERS)


def _last_name(name: str) -> str:
    line = one_line(name, 10 * NAME_CHARACTERS)
    return one_line(line.rpartition(".")[2] or line, NAME_CHARACTERS) or "?"
