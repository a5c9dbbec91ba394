from __future__ import annotations

from io import StringIO

import pytest

from celery_batches_notify import Progress
from celery_batches_notify.demo.display import Display


class Terminal(StringIO):
    def isatty(self) -> bool:
        return True


def progress(succeeded: int, dead: int = 0, total: int = 100) -> Progress:
    return Progress(
        bid="b" * 22,
        state="running",
        total=total,
        pending=total - succeeded,
        succeeded=succeeded,
        failures=dead,
        dead=dead,
        finished=succeeded + dead == total,
    )


def draw(stream: StringIO, *readings: Progress, each_seconds: float = 1.0, **environ: str) -> list[str]:
    now = [0.0]
    display = Display(stream, environ, clock=lambda: now[0])
    for reading in readings:
        now[0] += each_seconds
        display.show(reading)
    return stream.getvalue().removesuffix("\n").split("\n")


def test_elsewhere_than_on_a_terminal_each_tenth_gets_a_line() -> None:
    lines = draw(StringIO(), *[progress(n) for n in range(101)], each_seconds=0.5)
    assert len(lines) == 11
    assert lines[5] == f"  [{'+' * 25}{' ' * 25}]  50%  50 +  0 -  of 100  2/s  25.5 s"


def test_a_failure_shows_where_it_happened() -> None:
    last = draw(StringIO(), progress(20), progress(50), progress(50, 2), progress(98, 2))[-1]
    assert last.startswith(f"  [{'+' * 25}-{'+' * 24}] 100%  98 +  2 -")


def test_the_very_first_failure_shows() -> None:
    assert draw(StringIO(), progress(0, 2), progress(98, 2))[-1].startswith("  [-+++")


def test_a_terminal_has_one_line_redrawn_in_place() -> None:
    lines = draw(Terminal(), progress(0), progress(50), progress(50), progress(100), NO_COLOR="1")
    assert len(lines) == 1
    assert lines[0].count("\r\x1b[K") == 4


def test_a_terminal_is_left_in_peace_between_two_drawings_and_gets_the_last() -> None:
    (line,) = draw(Terminal(), *[progress(n) for n in range(101)], each_seconds=0.01, NO_COLOR="1")
    assert line.count("\r\x1b[K") == 6
    assert "100%" in line


def test_colours_distinguish_successes_from_failures() -> None:
    (line,) = draw(Terminal(), progress(50), progress(98, 2))
    assert "\x1b[32m98 +\x1b[0m" in line
    assert "\x1b[31m2 -\x1b[0m" in line


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"TERM": "dumb"}])
def test_no_colours_are_written_if_unwanted(environ: dict[str, str]) -> None:
    assert "\x1b[3" not in "".join(draw(Terminal(), progress(98, 2), **environ))


def test_an_empty_batch_is_done() -> None:
    assert "100%" in draw(StringIO(), progress(0, total=0))[-1]
