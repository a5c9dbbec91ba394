"""What the demo prints beside the output of the package's own commands: sections, and what arrived."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from email.message import EmailMessage
from typing import Any, TextIO

from celery_batches_notify.cli.bar import cut
from celery_batches_notify.cli.terminal import can_draw
from celery_batches_notify.demo.receivers import HOOK_PATH, CaughtHook

MAIL_LINES = 26
BACKTRACE_CHARACTERS = 41

_MAIL_HEADERS = ("From", "To", "Subject", "Message-ID")
_HOOK_HEADERS = ("Content-Type", "User-Agent", "webhook-id", "webhook-timestamp", "webhook-signature")
_CODES = {"bold": "1", "red": "31", "green": "32"}


class Display:
    """Writes to a terminal in colours, to anything else in plain text.

    Args:
        stream: Where to write.
        environ: `NO_COLOR` and `TERM` are read from here.
        clock: Returns seconds that only grow.
    """

    def __init__(
        self,
        stream: TextIO,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream
        self._clock = clock
        self._has_colours = can_draw(stream, environ) and not environ.get("NO_COLOR")
        self._started = clock()
        self._laps: dict[str, float] = {}

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self._clock() - self._started

    def paint(self, text: str, colour: str) -> str:
        """Return the text in a colour: `bold`, `red` or `green`."""
        return f"\x1b[{_CODES[colour]}m{text}\x1b[0m" if self._has_colours and text else text

    def say(self, line: str = "") -> None:
        """Write a line."""
        self._write(line + "\n")

    def section(self, title: str, lines: Iterable[str] = ()) -> None:
        """Write a title, and lines below it."""
        self.say("\n" + self.paint(title, "bold"))
        for line in lines:
            self.say(line)

    def lap(self, name: str) -> None:
        """Note that a phase has ended."""
        self._laps[name] = self.elapsed - sum(self._laps.values())

    def show_laps(self) -> None:
        """Write how long each phase took."""
        laps = " · ".join(f"{name} {seconds:.1f} s" for name, seconds in self._laps.items())
        self.section("Where the time went", [f"  {laps}"])

    def show_sum(self, total: Mapping[str, int]) -> None:
        """Write what the callback task added up."""
        counts = " · ".join(f"{total.get(name, 0):,} {name}" for name in ("lines", "functions", "classes"))
        line = f"  {total['modules']:,} modules · {total.get('bytes', 0) / 1e6:,.1f} MB · {counts}"
        self.section("What its callback task added up", [line])

    def show_mail(self, mail: EmailMessage) -> None:
        """Write a mail's headers and the beginning of its plain text, as they arrived."""
        part = mail.get_body(("plain",))
        lines = str(part.get_content() if part else "").rstrip().splitlines()
        more = [f"… and {len(lines) - MAIL_LINES} more lines"] if len(lines) > MAIL_LINES else []
        headers = [f"{name}: {mail[name]}" for name in _MAIL_HEADERS]
        self._show_message("The mail that arrived", [*headers, "", *lines[:MAIL_LINES], *more])

    def show_hook(self, hook: CaughtHook) -> None:
        """Write a webhook's headers, and its JSON with the first failure only."""
        found = {name.lower(): value for name, value in hook.headers.items()}
        headers = [f"{name}: {found[name.lower()]}" for name in _HOOK_HEADERS if name.lower() in found]
        content = json.dumps(_shorten(hook.content or {}), indent=2, ensure_ascii=False).splitlines()
        title = "The webhook that arrived, its signature checked"
        self._show_message(title, [f"POST {HOOK_PATH}", *headers, "", *content])

    def _show_message(self, title: str, lines: Iterable[str]) -> None:
        self.section(title, (f"  │ {line}".rstrip() for line in lines))

    def _write(self, text: str) -> None:
        self._stream.write(text)
        self._stream.flush()


def _shorten(content: Mapping[str, Any]) -> dict[str, Any]:
    failures: list[Any] = list(content.get("failure_info", ()))
    first = [
        {**failure, "backtrace": cut(failure["backtrace"] or "", BACKTRACE_CHARACTERS)}
        for failure in failures[:1]
    ]
    more = [f"… and {len(failures) - 1} more"] if len(failures) > 1 else []
    return {**content, "failure_info": first + more}
