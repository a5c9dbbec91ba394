"""Processes and directories that do not outlive this process, however it ends."""

from __future__ import annotations

import secrets
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, cast

# Each is run by a shell that leads a session and process group of its own and holds the other end of a pipe
# from us. A line in the pipe says that it is time to end. Without one the pipe only closes: something broke
# here, or we were killed; then nobody cares for an orderly end any more, only for a quick one.
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
    """Run a command that is ended with this block, or with this process, whichever is first.

    At the end of the block it gets SIGTERM, and what is then left of it and its children gets SIGKILL. If the
    block raises, or this process is killed, they all get SIGKILL at once. It does not see Ctrl-C: this
    process decides when it ends. If it ends by itself, `poll()` of the yielded process says so.

    Args:
        command: The program and its arguments.
        grace_seconds: How long it may take to end.
        options: For `subprocess.Popen`; by default there is no output.

    Yields:
        The shell that holds the command, and leads its process group: a signal to it alone ends no command.
    """
    options = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, **options}
    with _hold(_RUN, [str(grace_seconds), *command], options) as process:
        yield process


@contextmanager
def directory_until_we_end(prefix: str) -> Iterator[Path]:
    """Make a temporary directory that is removed with this block, or with this process."""
    directory = Path(tempfile.gettempdir(), f"{prefix}{secrets.token_hex(8)}")
    with _hold(_REMOVE, [str(directory)], {"cwd": "/", "stdout": subprocess.DEVNULL}):  # before there is one
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
