"""A batch's progress on one line of a terminal. Pure."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence

from celery_batches_notify.bar import count_parts
from celery_batches_notify.model import BatchStatus, Progress
from celery_batches_notify.text import one_line

CELLS_AT_MOST = 40
NAME_COLUMNS = 30
GAP = "  "
COLOURS = ("green", "yellow", "red", "dim")
SIGNS, ASCII_SIGNS = "█▒▓░", "#~x."  # succeeded, failing, dead, waiting

Paint = Callable[[str, str], str]


def bar_line(
    name: str, progress: Progress | BatchStatus, columns: int, *notes: str, ascii_only: bool, paint: Paint
) -> str:
    """Return name, bar and figures, as much of them as so many columns hold.

    Args:
        name: The batch's name.
        progress: Its counters.
        columns: The width of the terminal.
        notes: More to say, the most important first.
        ascii_only: Draw with ASCII.
        paint: Gives a text a colour: green, yellow, red or dim.
    """
    counts = tuple(count_parts(progress).values())
    percent = f"{int(progress.progress * 100):3}%"
    name = cut(
        one_line(name, 4 * NAME_COLUMNS), min(NAME_COLUMNS, columns // 3), "..." if ascii_only else "…"
    )
    cells = min(CELLS_AT_MOST, columns // 4)  # the same whatever the figures are, so that it does not jump
    room = columns - 1 - width(name) - len(GAP) - cells  # a full line would break
    shown = []
    figures = _figures(counts, progress.total, room - len(GAP + percent + GAP))
    for text in [percent, figures, *filter(None, notes)]:
        room -= len(GAP) + width(text)
        if room < 0:
            break
        shown.append(text)
    signs = ASCII_SIGNS if ascii_only else SIGNS
    parts = zip(signs, share(counts, cells), COLOURS, strict=True)
    drawn = "".join(paint(sign * count, colour) for sign, count, colour in parts if count)
    return GAP.join([name, drawn, *shown])


def share(counts: Sequence[int], cells: int) -> list[int]:
    """Share cells out in proportion to counts; one that is not zero gets a cell, as far as they go."""
    total = sum(counts)
    if not total:
        return [0] * (len(counts) - 1) + [cells]
    wanted = [max(count * cells / total, min(count, 1)) for count in counts]
    given = [int(each) for each in wanted]
    while sum(given) > cells:
        given[given.index(max(given))] -= 1
    for _ in range(cells - sum(given)):
        rests = [each - got for each, got in zip(wanted, given, strict=True)]
        given[rests.index(max(rests))] += 1
    return given


def width(text: str) -> int:
    """Return how many columns a terminal needs for a text at the most."""
    return sum(map(_columns_of, text))


def cut(text: str, columns: int, end: str = "…") -> str:
    """Return a text that fits into so many columns, with this end if it was cut."""
    if width(text) <= columns:
        return text
    while text and width(text) > columns - len(end):
        text = text[:-1]
    return text.rstrip() + end


def _columns_of(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _figures(counts: Sequence[int], total: int, columns: int) -> str:
    """Say how many of each there are, or how many have ended if that is all that fits."""
    succeeded, failing, dead, _ = counts
    words = [f"{succeeded:,} ok"]
    if failing:
        words.append(f"{failing:,} retry")
    if dead:
        words.append(f"{dead:,} dead")
    long = " ".join([*words, f"/{total:,}"])
    return long if len(long) <= columns else f"{succeeded + dead:,}/{total:,}"
