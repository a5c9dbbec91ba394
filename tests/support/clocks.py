"""Processes with a clock of their own, which libfaketime shifts or speeds up for them and for no other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path

from tests.support.servers import need

LIBRARIES = ("/usr/lib/*/faketime", "/usr/local/lib/*/faketime", "/usr/lib/faketime", "/usr/lib64/faketime")


def find_libfaketime() -> str:
    """The library that is loaded before a process' own; a test without it is skipped, as on macOS."""
    # A server has threads, hence "MT".
    found = sorted(file for place in LIBRARIES for file in glob(f"{place}/libfaketimeMT.so.1"))
    need("libfaketime", found)
    return found[0]


def fast_clock(speed: float) -> Mapping[str, str]:
    """The environment of a process whose clocks run so many times as fast as ours."""
    return {"LD_PRELOAD": find_libfaketime(), "FAKETIME": f"+0 x{speed:g}", "FAKETIME_NO_CACHE": "1"}


class ServerClock:
    """The clock of one server, which lies so many seconds ahead of ours; timers go by the monotonic one."""

    def __init__(self, file: Path, ahead: float = 0) -> None:
        self._file = file
        self.ahead = ahead
        self.set(ahead)
        self.prefix: Sequence[str] = (
            "env",
            # libc's malloc comes before jemalloc, which asks for the time while libfaketime is not ready yet.
            f"LD_PRELOAD={find_libfaketime()} libc.so.6",
            f"FAKETIME_TIMESTAMP_FILE={file}",
            "FAKETIME_NO_CACHE=1",
            "FAKETIME_DONT_FAKE_MONOTONIC=1",
        )

    def set(self, ahead: float) -> None:
        """Set the clock; the server reads it the next time it looks."""
        self.ahead = ahead
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+.3f}\n", "ascii")
        new.replace(self._file)  # it never reads half a line
