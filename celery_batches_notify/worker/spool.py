"""The spool: lines on this host's disk. All processes append to it, and any worker takes them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import secrets
import stat
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from hashlib import blake2b
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

from celery_batches_notify.settings import Settings
from celery_batches_notify.store_url import split_addresses

LINE_AT_MOST = 64 * 1024 * 1024  # a report with a million and a half successors
PEEKED_AT_MOST = 256 * 1024  # bytes that are read ahead, and the line that exceeds them
LOCK_PAUSE_SECONDS, LOCK_TRIES = 0.005, 400
_LOCK, _APPENDED, _KEPT, _TAKEN = "lock", "appended", "kept", "taken."
_FIX = "remove it, or set batches_spool_dir"
_TAKEN_NAME = re.compile(r"taken\.[0-9a-f]{16}\.[0-9]{1,12}")
# The options of redis-py that say which server it is, not how to talk to it.
_WHICH = ("db", "host", "master_name", "path", "port", "service_name")


def spool_of(settings: Settings) -> Spool:
    """Return the spool of this user for one store and prefix, so that stores do not mix."""
    urls = [urlsplit(url) for url in split_addresses(settings.backend_url)]
    which: list[object] = [(url.hostname, url.port, url.path, parse_qs(url.query).get("db")) for url in urls]
    which += [settings.prefix, *(settings.backend_options.get(name) for name in _WHICH)]
    name = blake2b(repr(which).encode(), digest_size=8).hexdigest()
    parent = Path(settings.spool_dir or _temporary_directory())
    return Spool(parent / f"batches-spool-{os.geteuid()}-{name}", settings.spool_size)


def _temporary_directory() -> str:
    """Return where temporary files go; if nowhere, a path that the spool's errors can name."""
    try:
        return tempfile.gettempdir()
    except FileNotFoundError:  # safety: no-temporary-directory
        return os.environ.get("TMPDIR") or "/tmp"  # noqa: S108 - the spool checks what it finds there


class Spool:
    """A directory that only this user can read. Every method raises `OSError`, whose text says what to fix.

    Every file is opened relative to the directory that was checked, so nobody can put another one in its
    place meanwhile. It needs a disk on which `flock` works, such as a local one.

    Args:
        path: The directory; the first `append` creates it.
        bytes_at_most: The size limit of all its files together.
    """

    def __init__(self, path: Path, bytes_at_most: int) -> None:
        self.path = path
        self._bytes_at_most = bytes_at_most

    def check(self) -> None:
        """Raise if it cannot be used; do not create it."""
        try:
            with self._directory():
                return
        except FileNotFoundError:
            place = next(parent for parent in self.path.parents if parent.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            raise self._cannot_create(errno.EACCES, f"{place} is not writable")

    def append(self, line: bytes) -> None:
        """Append one line; it is on the disk when this returns."""
        if len(line) > LINE_AT_MOST:
            raise OSError(errno.EFBIG, f"a spool's line has at most {LINE_AT_MOST} bytes, got {len(line)}")
        self._make()
        self._append(_APPENDED, line, self._bytes_at_most)

    def keep(self, lines: Sequence[bytes]) -> None:
        """Set lines aside that were taken; `take` yields them only if it is asked for them."""
        if lines:
            self._append(_KEPT, b"".join(lines).strip(), None)

    def take(self, *, kept: bool = False) -> Iterator[Taken]:
        """Yield the files, each for this process alone until it is closed; `done` removes it.

        A file that another process took and did not remove comes first.

        Args:
            kept: Yield the lines that were set aside too.
        """
        with suppress(FileNotFoundError), self._directory() as directory:
            yield from _take_each(directory)
            for name in (_APPENDED, _KEPT) if kept else (_APPENDED,):
                if _size(directory, name):
                    with suppress(FileNotFoundError), _locked(directory):  # else another process took it
                        aside = f"{_TAKEN}{secrets.token_hex(8)}.0"
                        os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
            yield from _take_each(directory)

    def _make(self) -> None:
        try:
            if self.path.exists():
                return
            os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
            with suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
        except OSError as exc:
            raise self._cannot_create(exc.errno, exc.strerror) from exc
        parent = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _cannot_create(self, number: int | None, why: str | None) -> OSError:
        return OSError(number, f"the spool {self.path} cannot be created ({why}): set batches_spool_dir")

    def _append(self, name: str, lines: bytes, bytes_at_most: int | None) -> None:
        with self._directory() as directory, ExitStack() as after:
            with _locked(directory):
                used = sum(_size(directory, each) for each in os.listdir(directory))
                if bytes_at_most is not None and used + len(lines) + 2 > bytes_at_most:
                    full = f"holds {used} of at most {bytes_at_most} bytes (batches_spool_size)"
                    raise OSError(errno.ENOSPC, f"the spool {self.path} {full}")
                file = after.enter_context(_opened(directory, name, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
                fresh = _write_whole(file, lines)
            os.fsync(file)  # after the lock, so that others do not wait for the disk
            if fresh:
                os.fsync(directory)

    @contextmanager
    def _directory(self) -> Iterator[int]:
        """Open the directory; raise if it is not one, or not only ours."""
        why = ""
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except NotADirectoryError:
            raise NotADirectoryError(
                errno.ENOTDIR, f"the spool {self.path} must be a directory, not a link or a file: {_FIX}"
            ) from None
        except PermissionError:
            raise PermissionError(
                errno.EPERM, f"the spool {self.path} belongs to another user: {_FIX}"
            ) from None
        try:
            status = os.fstat(directory)
            if status.st_uid != os.geteuid():
                why = f"belongs to user {status.st_uid}: {_FIX}"
            elif stat.S_IMODE(status.st_mode) & 0o077:
                why = "is open to others: chmod 700 it"
            if why:
                raise PermissionError(errno.EPERM, f"the spool {self.path} {why}")
            yield directory
        finally:
            os.close(directory)


class Taken:
    """A file of lines that only this process reads. Its name holds the offset of the first unhandled line."""

    def __init__(self, directory: int, name: str, file: int) -> None:
        self._directory = directory
        self._name = name
        self._file = os.fdopen(os.dup(file), "rb")
        self._offset = int(name.rpartition(".")[2])

    def lines(self) -> Iterator[bytes]:
        """Yield the lines; of a line that is too long to be ours, only its beginning."""
        self._file.seek(self._offset)
        while line := self._file.readline(LINE_AT_MOST + 2):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = self._file.readline(LINE_AT_MOST)
            if line != b"\n":
                yield line
            self._offset = self._file.tell()

    def peek(self, count: int) -> list[bytes]:
        """Return up to so many of the next lines, which `lines` yields later; fewer if they are long."""
        at, ahead, size = self._file.tell(), list[bytes](), 0
        while len(ahead) < count and size < PEEKED_AT_MOST:
            if not (line := self._file.readline(LINE_AT_MOST + 2)):
                break
            size += len(line)
            if line != b"\n":
                ahead.append(line)
        self._file.seek(at)
        return ahead

    def leave(self) -> None:
        """Leave the line that was read last and those after it to the next process."""
        name = f"{self._name.rpartition('.')[0]}.{self._offset}"
        os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def done(self) -> None:
        """Remove the file, because all its lines were handled."""
        os.unlink(self._name, dir_fd=self._directory)

    def close(self) -> None:
        """Close the file, so that another process can take it."""
        self._file.close()


def _take_each(directory: int) -> Iterator[Taken]:
    for name in sorted(os.listdir(directory)):
        if not _TAKEN_NAME.fullmatch(name):
            continue
        with suppress(FileNotFoundError), _opened(directory, name, os.O_RDONLY) as file:
            if not _lock(file):
                continue  # another process reads it
            taken = Taken(directory, name, file)
            try:
                if _is_at(directory, name, file):  # else another process left or removed it meanwhile
                    yield taken
            finally:
                taken.close()
                fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough, because a fork may have it open


@contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Hold the spool's lock, to append to a file or to take it. Each holder needs only a moment."""
    for _ in range(LOCK_TRIES):  # no deadline: if the machine stands still for a while, that costs one try
        with _opened(directory, _LOCK, os.O_RDWR | os.O_CREAT) as file:
            if _lock(file):
                try:
                    if _is_at(directory, _LOCK, file):  # else somebody removed it meanwhile
                        yield
                        return
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(LOCK_PAUSE_SECONDS)
    raise TimeoutError(errno.ETIMEDOUT, "another process holds the lock of the spool and does not release it")


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(directory: int, name: str, flags: int) -> Iterator[int]:
    file = os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=directory)
    try:
        yield file
    finally:
        os.close(file)


def _write_whole(file: int, line: bytes) -> bool:
    """Write a line or nothing; return whether it is the file's first.

    A line end comes first, so that half a line, left by a process that died, is a line of its own.
    """
    before = os.fstat(file).st_size
    rest = b"\n" + line + b"\n"
    try:
        while rest:
            rest = rest[os.write(file, rest) :]
    except BaseException:
        os.ftruncate(file, before)
        raise
    return before == 0


def _size(directory: int, name: str) -> int:
    try:
        return os.stat(name, dir_fd=directory, follow_symlinks=False).st_size
    except FileNotFoundError:
        return 0


def _is_at(directory: int, name: str, file: int) -> bool:
    """Return whether the name still refers to this open file."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
