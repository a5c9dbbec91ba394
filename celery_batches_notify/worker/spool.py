"""The spool: lines on this host's disk, which all processes append to and any worker takes."""

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

LINE_AT_MOST = 64 * 1024 * 1024  # a report that names a million and a half others
LOCK_PAUSE_SECONDS, LOCK_TRIES = 0.005, 400
_LOCK, _APPENDED, _KEPT, _TAKEN = "lock", "appended", "kept", "taken."
_MEND = "remove it, or set batches_spool_dir"
_TAKEN_NAME = re.compile(r"taken\.[0-9a-f]{16}\.[0-9]{1,12}")
# Of redis-py's options those that say which server it is, not how to talk to it.
_WHICH = ("db", "host", "master_name", "path", "port", "service_name")


def spool_of(settings: Settings) -> Spool:
    """The spool of one user for one store and prefix: no other store's outcomes may end up in it."""
    urls = [urlsplit(url) for url in split_addresses(settings.backend_url)]
    which: list[object] = [(url.hostname, url.port, url.path, parse_qs(url.query).get("db")) for url in urls]
    which += [settings.prefix, *(settings.backend_options.get(name) for name in _WHICH)]
    name = blake2b(repr(which).encode(), digest_size=8).hexdigest()
    place = Path(settings.spool_dir or tempfile.gettempdir())
    return Spool(place / f"batches-spool-{os.geteuid()}-{name}", settings.spool_size)


class Spool:
    """A directory that belongs to us alone. Every method raises `OSError`, which says what to mend.

    Whatever is done to a file is done relative to the directory that was checked, so nobody can put another
    one in its place meanwhile. It needs a disk whose locks work, as those of local disks do.

    Args:
        path: The directory; it is made when the first line comes.
        bytes_at_most: How much all its files may take.
    """

    def __init__(self, path: Path, bytes_at_most: int) -> None:
        self.path = path
        self._bytes_at_most = bytes_at_most

    def check(self) -> None:
        """Make sure that it can be used, without making it."""
        try:
            with self._directory():
                return
        except FileNotFoundError:
            place = next(parent for parent in self.path.parents if parent.exists())
        if not os.access(place, os.W_OK | os.X_OK):
            raise PermissionError(
                errno.EACCES, f"the spool {self.path} cannot be made: set batches_spool_dir"
            )

    def append(self, line: bytes) -> None:
        """Put one line on the disk; it is there when this returns."""
        if len(line) > LINE_AT_MOST:
            raise OSError(errno.EFBIG, f"a line of {len(line)} bytes is more than the {LINE_AT_MOST} of one")
        self._make()
        self._append(_APPENDED, line, self._bytes_at_most)

    def keep(self, lines: Sequence[bytes]) -> None:
        """Put lines that were taken aside: whoever takes next does not see them."""
        if lines:
            self._append(_KEPT, b"".join(lines).strip(), None)

    def take(self, *, kept: bool = False) -> Iterator[Taken]:
        """Yield what there is, file by file; nobody else gets one meanwhile, and it stays until `done`.

        What somebody took before and did not end comes first; `kept` says that what was kept comes too.
        """
        with suppress(FileNotFoundError), self._directory() as directory:
            yield from _take_each(directory)
            for name in (_APPENDED, _KEPT) if kept else (_APPENDED,):
                if _size(directory, name):
                    with suppress(FileNotFoundError), _locked(directory):  # or somebody else has taken it
                        aside = f"{_TAKEN}{secrets.token_hex(8)}.0"
                        os.rename(name, aside, src_dir_fd=directory, dst_dir_fd=directory)
            yield from _take_each(directory)

    def _make(self) -> None:
        if self.path.exists():
            return
        os.makedirs(self.path.parent, mode=0o700, exist_ok=True)
        with suppress(FileExistsError):
            os.mkdir(self.path, 0o700)
        parent = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)

    def _append(self, name: str, lines: bytes, bytes_at_most: int | None) -> None:
        with self._directory() as directory, ExitStack() as after:
            with _locked(directory):
                used = sum(_size(directory, each) for each in os.listdir(directory))
                if bytes_at_most is not None and used + len(lines) + 2 > bytes_at_most:
                    full = f"holds {used} of at most {bytes_at_most} bytes (batches_spool_size)"
                    raise OSError(errno.ENOSPC, f"the spool {self.path} {full}")
                file = after.enter_context(_opened(directory, name, os.O_WRONLY | os.O_APPEND | os.O_CREAT))
                fresh = _write_whole(file, lines)
            os.fsync(file)  # others need not wait for the disk
            if fresh:
                os.fsync(directory)

    @contextmanager
    def _directory(self) -> Iterator[int]:
        """Open the directory, and make sure that it is one, and ours."""
        why = ""
        try:
            directory = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except NotADirectoryError:
            raise NotADirectoryError(
                errno.ENOTDIR, f"the spool {self.path} is a link or no directory: remove it"
            ) from None
        except PermissionError:
            raise PermissionError(
                errno.EPERM, f"the spool {self.path} belongs to another user: {_MEND}"
            ) from None
        try:
            status = os.fstat(directory)
            if status.st_uid != os.geteuid():
                why = f"belongs to user {status.st_uid}: {_MEND}"
            elif stat.S_IMODE(status.st_mode) & 0o077:
                why = "is open to others: chmod 700 it"
            if why:
                raise PermissionError(errno.EPERM, f"the spool {self.path} {why}")
            yield directory
        finally:
            os.close(directory)


class Taken:
    """One file of lines that this process alone is at. Its name says up to where it has been seen to."""

    def __init__(self, directory: int, name: str, file: int) -> None:
        self._directory = directory
        self._name = name
        self._file = os.fdopen(os.dup(file), "rb")
        self._seen = int(name.rpartition(".")[2])

    def lines(self) -> Iterator[bytes]:
        """Yield line by line; of one that is too long to be ours, only how it begins."""
        self._file.seek(self._seen)
        while line := self._file.readline(LINE_AT_MOST + 2):
            rest = line
            while rest and not rest.endswith(b"\n"):
                rest = self._file.readline(LINE_AT_MOST)
            if line != b"\n":
                yield line
            self._seen = self._file.tell()

    def leave(self) -> None:
        """Leave the line that was read last, and those after it, to the next one who takes."""
        name = f"{self._name.rpartition('.')[0]}.{self._seen}"
        os.rename(self._name, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)

    def done(self) -> None:
        """Remove the file: all its lines have been seen to."""
        os.unlink(self._name, dir_fd=self._directory)

    def close(self) -> None:
        """Give the file back."""
        self._file.close()


def _take_each(directory: int) -> Iterator[Taken]:
    for name in sorted(os.listdir(directory)):
        if not _TAKEN_NAME.fullmatch(name):
            continue
        with suppress(FileNotFoundError), _opened(directory, name, os.O_RDONLY) as file:
            if not _lock(file):
                continue  # somebody is at it
            taken = Taken(directory, name, file)
            try:
                if _is_at(directory, name, file):  # or somebody has left or ended it meanwhile
                    yield taken
            finally:
                taken.close()
                fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a fork may hold it open


@contextmanager
def _locked(directory: int) -> Iterator[None]:
    """Be the only one who appends or takes, once others have ended; they only ever need a moment."""
    for _ in range(LOCK_TRIES):  # not until a time: a machine that stands still a while costs one try
        with _opened(directory, _LOCK, os.O_RDWR | os.O_CREAT) as file:
            if _lock(file):
                try:
                    if _is_at(directory, _LOCK, file):  # or somebody has cleaned up meanwhile
                        yield
                        return
                finally:
                    fcntl.flock(file, fcntl.LOCK_UN)
        time.sleep(LOCK_PAUSE_SECONDS)
    raise TimeoutError(errno.ETIMEDOUT, "somebody holds the lock of the spool and does not move")


def _lock(file: int) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


@contextmanager
def _opened(directory: int, name: str, flags: int) -> Iterator[int]:
    file = _open(directory, name, flags)
    try:
        yield file
    finally:
        os.close(file)


def _open(directory: int, name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NOFOLLOW, 0o600, dir_fd=directory)


def _write_whole(file: int, line: bytes) -> bool:
    """Write a line, or nothing; return whether it is the file's first.

    It begins with a line end: what a process that died half-way left is then a line of its own.
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
    """Whether this open file is the one that bears the name."""
    try:
        return os.path.samestat(os.fstat(file), os.stat(name, dir_fd=directory, follow_symlinks=False))
    except FileNotFoundError:
        return False
