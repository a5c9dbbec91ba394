"""The spool's files: no line is lost, and foreign files and lines are refused."""

from __future__ import annotations

import errno
import os
import resource
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from celery import Celery

from celery_batches_notify.settings import Settings
from celery_batches_notify.worker import spool as spool_module
from celery_batches_notify.worker.spool import Spool, spool_of
from tests.support.servers import wait_until

LINE_AT_MOST = 100_000
MEGABYTE = 1024 * 1024


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool", MEGABYTE)


def take_all(spool: Spool, *, kept: bool = False) -> list[bytes]:
    out = []
    for taken in spool.take(kept=kept):
        out += [line.rstrip(b"\n") for line in taken.lines()]
        taken.done()
    return out


def test_each_line_is_taken_once(spool: Spool) -> None:
    spool.append(b"one")
    spool.append(b"two")
    assert take_all(spool) == [b"one", b"two"]
    assert take_all(spool) == []


def test_a_spool_that_was_never_used_is_empty_and_not_made(spool: Spool) -> None:
    spool.check()
    assert take_all(spool) == []
    assert not spool.path.exists()


def test_other_users_may_not_read_it(spool: Spool) -> None:
    spool.append(b"secret")
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in spool.path.iterdir()}
    assert stat.S_IMODE(spool.path.stat().st_mode) == 0o700
    assert modes == {"lock": 0o600, "appended": 0o600}


def test_a_file_that_was_taken_and_not_done_is_taken_again(spool: Spool) -> None:
    spool.append(b"one")
    for taken in spool.take():
        list(taken.lines())
    assert take_all(spool) == [b"one"]


def test_lines_that_were_handled_before_a_file_was_left_are_not_taken_again(spool: Spool) -> None:
    for line in (b"one", b"two", b"three"):
        spool.append(line)
    for taken in spool.take():
        for line in taken.lines():
            if line.startswith(b"two"):
                break
        taken.leave()
    spool.append(b"four")
    assert take_all(spool) == [b"two", b"three", b"four"]


def test_lines_that_are_read_ahead_come_in_their_turn(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    for line in (b"one", b"two", b"three", b"four"):
        spool.append(line)
    for taken in spool.take():
        lines = taken.lines()
        assert next(lines) == b"one\n"
        assert taken.peek(2) == [b"two\n", b"three\n"]
        assert next(lines) == b"two\n"
        assert taken.peek(9) == [b"three\n", b"four\n"]
        monkeypatch.setattr(spool_module, "PEEKED_AT_MOST", 3)
        assert taken.peek(9) == [b"three\n"]
        taken.leave()
    assert take_all(spool) == [b"two", b"three", b"four"]


def test_a_file_that_one_process_has_taken_no_other_gets(spool: Spool) -> None:
    spool.append(b"one")
    for taken in spool.take():
        assert take_all(spool) == []
        spool.append(b"two")
        assert take_all(spool) == [b"two"]
        assert list(taken.lines()) == [b"one\n"]


def test_lines_set_aside_come_only_if_they_are_asked_for(spool: Spool) -> None:
    spool.append(b"one")
    spool.keep([b"\n", b"two\n", b"three\n"])
    assert take_all(spool) == [b"one"]
    assert take_all(spool, kept=True) == [b"two", b"three"]


def test_a_torn_end_spoils_no_line_but_itself(spool: Spool) -> None:
    spool.append(b"one")
    with (spool.path / "appended").open("ab") as file:
        file.write(b"\nhalf of what a process that d")
    spool.append(b"two")
    assert take_all(spool) == [b"one", b"half of what a process that d", b"two"]


def test_a_line_that_is_too_long_is_refused_and_when_read_cut(
    spool: Spool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "LINE_AT_MOST", LINE_AT_MOST)
    spool.append(b"one")
    with pytest.raises(OSError, match="line has at most"):
        spool.append(b"x" * (LINE_AT_MOST + 1))
    with (spool.path / "appended").open("ab") as file:
        file.write(b"\n" + b"y" * (3 * LINE_AT_MOST) + b"\n")
    assert [len(line) for line in take_all(spool)] == [3, LINE_AT_MOST + 2]


def test_over_its_cap_it_refuses_and_says_which_setting(spool: Spool) -> None:
    line = b"x" * (MEGABYTE // 4)
    for _ in range(3):
        spool.append(line)
    for taken in spool.take():  # what is taken counts too
        with pytest.raises(OSError, match="batches_spool_size") as caught:
            spool.append(line)
        assert caught.value.errno == errno.ENOSPC
        taken.done()
    spool.append(line)


def test_a_disk_that_takes_half_a_line_leaves_nothing_of_it(spool: Spool) -> None:
    spool.append(b"one")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(OSError, match="File too large"):
            spool.append(b"x" * 200)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (spool.path / "appended").stat().st_size == len(b"\none\n")
    spool.append(b"two")
    assert take_all(spool) == [b"one", b"two"]


def test_a_link_in_its_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (tmp_path / "spool").symlink_to("elsewhere")
    spool = Spool(tmp_path / "spool", MEGABYTE)
    for use in (spool.check, lambda: spool.append(b"one"), lambda: take_all(spool)):
        with pytest.raises(NotADirectoryError, match="must be a directory, not a link"):
            use()
    assert not list((tmp_path / "elsewhere").iterdir())


def test_a_link_in_place_of_its_file_is_refused(spool: Spool, tmp_path: Path) -> None:
    spool.append(b"one")
    take_all(spool)
    victim = tmp_path / "victim"
    victim.write_bytes(b"mine")
    (spool.path / "appended").symlink_to(victim)
    with pytest.raises(OSError, match="symbolic link"):
        spool.append(b"two")
    assert victim.read_bytes() == b"mine"


def test_a_directory_that_is_open_to_others_is_refused(spool: Spool) -> None:
    spool.path.mkdir(mode=0o700)
    spool.path.chmod(0o770)
    with pytest.raises(PermissionError, match="chmod 700"):
        spool.append(b"one")


def test_a_directory_of_another_user_is_refused(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    spool.path.mkdir(mode=0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)  # only root could make one of somebody else
    with pytest.raises(PermissionError, match=f"belongs to user {owner}: .* batches_spool_dir"):
        spool.check()


def test_a_place_where_it_cannot_be_created_is_reported_in_advance(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="spool"):
        Spool(tmp_path / "file" / "spool", MEGABYTE).check()


def test_each_store_and_prefix_has_a_spool_of_its_own_whatever_the_password(
    app: Celery, tmp_path: Path
) -> None:
    def name_of(url: str, **other: object) -> str:
        app.conf.update(batches_backend_url=url, batches_spool_dir=str(tmp_path), **other)
        return spool_of(Settings.from_app(app)).path.name

    urls = ["redis://a/0", "redis://a/1", "redis://b/0", "unix:///s?db=1", "unix:///s?db=2"]
    names = {name_of(url) for url in urls} | {name_of("redis://a/0", batches_prefix="other")}
    assert len(names) == 6
    assert name_of("redis://u:one@a/0") == name_of("redis://u:two@a/0") != name_of("redis://a/1")


APPENDER = """
import sys
from pathlib import Path
from celery_batches_notify.worker.spool import Spool
spool = Spool(Path(sys.argv[1]), 10**8)
for i in range(int(sys.argv[3])):
    spool.append(f"{sys.argv[2]} {i}".encode())
"""
TAKER = """
import sys
from pathlib import Path
from celery_batches_notify.worker.spool import Spool
spool = Spool(Path(sys.argv[1]), 10**8)
stop = Path(sys.argv[2])
while True:
    last = stop.exists()
    for taken in spool.take():
        for line in taken.lines():
            sys.stdout.write(line.decode())
        taken.done()
    if last:
        break
"""


def test_processes_that_append_and_take_at_once_lose_nothing_and_take_it_once(
    spool: Spool, tmp_path: Path
) -> None:
    count, stop = 300, tmp_path / "stop"

    def run(script: str, *args: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", script, str(spool.path), *map(str, args)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    takers = [run(TAKER, stop) for _ in range(2)]
    appenders = [run(APPENDER, k, count) for k in range(3)]
    out: list[str] = []
    readers = [threading.Thread(target=lambda t=t: out.extend(t.stdout.read().splitlines())) for t in takers]
    for reader in readers:
        reader.start()
    try:
        for appender in appenders:
            assert appender.wait(60) == 0
            appender.stdout.close()
    finally:
        stop.touch()  # or the takers never end
    for reader, taker in zip(readers, takers, strict=True):
        assert taker.wait(60) == 0
        reader.join()
        taker.stdout.close()
    assert sorted(out) == sorted(f"{k} {i}" for k in range(3) for i in range(count))


def test_a_lock_that_is_never_released_is_an_error_in_the_end(spool: Spool) -> None:
    import fcntl

    spool.append(b"one")
    with (spool.path / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError):
            spool.append(b"two")
    spool.append(b"three")
    assert take_all(spool) == [b"one", b"three"]


def test_a_lock_that_was_cleaned_away_is_made_anew(spool: Spool) -> None:
    import fcntl

    spool.append(b"one")
    with (spool.path / "lock").open("rb+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        (spool.path / "lock").unlink()
        spool.append(b"two")
    assert take_all(spool) == [b"one", b"two"]


def test_threads_that_append_at_once_lose_nothing(spool: Spool) -> None:
    threads = [
        threading.Thread(target=lambda k=k: [spool.append(f"{k} {i}".encode()) for i in range(50)])
        for k in range(8)
    ]
    for thread in threads:
        thread.start()
    wait_until(lambda: not any(thread.is_alive() for thread in threads))
    assert sorted(take_all(spool)) == sorted(f"{k} {i}".encode() for k in range(8) for i in range(50))
