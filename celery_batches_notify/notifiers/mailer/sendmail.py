"""Give a mail to the local program sendmail, which queues and delivers it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from typing import IO

from celery_batches_notify.notifiers.mailer.letter import Letter
from celery_batches_notify.notifiers.mailer.options import SendmailOptions
from celery_batches_notify.notifiers.mailer.receipt import MailFailed
from celery_batches_notify.text import one_line

_PERMANENT = {65: "EX_DATAERR", 67: "EX_NOUSER", 68: "EX_NOHOST"}  # sysexits.h: this mail is at fault
_OUTPUT_READ = 4096


def find_sendmail() -> str | None:
    """Return the path of this machine's sendmail, or None."""
    return shutil.which("sendmail") or shutil.which("/usr/sbin/sendmail")


def send(letter: Letter, options: SendmailOptions) -> None:
    """Give a letter to the program.

    Raises:
        MailFailed: The program is missing, took too long, or failed.
    """
    location = options.location or find_sendmail()
    if location is None:
        raise MailFailed("this machine has no sendmail; give its path as location, or use via='smtp'")
    command = [location, *options.arguments, "-f", letter.sender, "--", *letter.recipients]
    try:
        # a file, because a pipe would end only with the processes that the program leaves behind
        with _open_for_output() as output:
            done = subprocess.run(  # noqa: S603 -- no shell; the program is the operator's
                command,
                input=letter.as_bytes(linesep="\n"),
                stdout=output,  # safety: sendmail-children
                stderr=subprocess.STDOUT,
                timeout=options.total_timeout,
                check=False,
            )
            output.seek(0)
            said = output.read(_OUTPUT_READ).decode("utf-8", "replace")
    except subprocess.TimeoutExpired:
        raise MailFailed(f"{location} was not done after {options.total_timeout:g} s") from None
    except OSError as exc:
        raise MailFailed(f"{location} cannot be run: {exc.strerror}") from exc
    if done.returncode:
        code = _PERMANENT.get(done.returncode, done.returncode)
        raise MailFailed(
            f"{location} ended with {code}: {one_line(said, 300)}", permanent=done.returncode in _PERMANENT
        )


def _open_for_output() -> IO[bytes]:
    """Open a file in memory if Python can: a container may lack a directory for temporary files."""
    if sys.platform == "linux" and hasattr(os, "memfd_create"):  # a Python built for an old libc lacks it
        return os.fdopen(os.memfd_create("sendmail"), "w+b")  # safety: output-in-memory
    return tempfile.TemporaryFile()
