"""Start processes and make directories that do not outlive this process, even if it is killed."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

# A shell runs each of them. It leads a session and process group of its own, and holds the other end of a
# pipe. A line in the pipe asks it to end in order. If the pipe closes without one, this process failed or was
# killed, and the shell kills everything at once.
_RUN = """
grace_seconds=$1; shift; exec 3<&0
"$@" 3<&- & command=$!
{ read -r _ <&3 || kill -9 0; kill "$command"; sleep "$grace_seconds"; kill -9 0; } &
wait "$command"
kill -9 0
"""
_REMOVE = """
read -r _
for _ in 1 2 3 4 5 6 7 8 9 10 11 12; do rm -rf "$1" 2>/dev/null && exit; sleep 1; done
"""


@contextmanager
def run_until_we_end(
    command: Sequence[str], *, grace_seconds: int = 10, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a command until this block or this process ends.

    At the end of the block the command gets SIGTERM; later, it and its children get SIGKILL. If the block
    raises, or this process is killed, they all get SIGKILL at once. The command does not see Ctrl-C, because
    this process decides when it ends. If it ends by itself, `poll()` of the yielded process says so.

    Args:
        command: The program and its arguments.
        grace_seconds: The time from SIGTERM to SIGKILL.
        options: For `subprocess.Popen`; by default, output is dropped.

    Yields:
        The shell that runs the command and leads its process group. A signal to the shell alone does not end
        the command.
    """
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    with _hold(_RUN, [str(grace_seconds), *command], options) as process:
        yield process


@contextmanager
def directory_until_we_end(prefix: str) -> Iterator[Path]:
    """Make a temporary directory, and remove it when this block or this process ends."""
    directory = Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}")
    with _hold(_REMOVE, [str(directory)], {"cwd": "/", "stdout": subprocess.DEVNULL}):  # before it exists
        directory.mkdir(mode=0o700)
        yield directory


@contextmanager
def _hold(
    script: str, arguments: Sequence[str], options: dict[str, Any]
) -> Iterator[subprocess.Popen[bytes]]:
    command = ["sh", "-c", script, "sh", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True, **options)  # noqa: S603
    pipe = cast("IO[bytes]", process.stdin)
    try:
        yield process
        with suppress(BrokenPipeError):  # it ended by itself
            pipe.write(b"\n")
            pipe.flush()
    finally:
        with suppress(BrokenPipeError):
            pipe.close()
        process.wait()
