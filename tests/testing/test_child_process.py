from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
from tests.demo.processes import running
from tests.support.servers import wait_until

STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = os.fork()
if child:
    print(os.getpid(), child, flush=True)
time.sleep(60)
"""
OWNER = """
import sys, time
from celery_batches_notify.testing.child_process import directory_until_we_end, run_until_we_end
with directory_until_we_end("batches-test-") as directory:
    (directory / "file").write_text("x")
    with run_until_we_end(["sh", "-c", "echo $$; exec sleep 60"], stdout=None):
        print(directory, flush=True)
        time.sleep(60)
"""


def read_pids(path: Path) -> list[int]:
    wait_until(lambda: path.read_text().endswith("\n"), what="the process")
    return [int(word) for word in path.read_text().split()]


def test_a_command_gets_sigterm_at_the_end_of_the_block(tmp_path: Path) -> None:
    out = tmp_path / "out"
    script = 'trap "echo ended; exit" TERM; echo started; while :; do sleep 0.01; done'
    with out.open("wb") as file, run_until_we_end(["sh", "-c", script], stdout=file):
        wait_until(lambda: out.read_text() == "started\n")
    assert out.read_text() == "started\nended\n"


def test_a_command_that_ignores_sigterm_is_killed_with_its_children(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", STUBBORN]
    with out.open("wb") as file, run_until_we_end(command, grace_seconds=1, stdout=file):
        pids = read_pids(out)
        assert set(pids) <= running().keys()
    wait_until(lambda: not set(pids) & running().keys())


def test_a_block_that_raises_does_not_wait_for_an_orderly_end(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with (
        pytest.raises(ZeroDivisionError),
        out.open("wb") as file,
        run_until_we_end([sys.executable, "-c", STUBBORN], grace_seconds=60, stdout=file),
    ):
        pids = read_pids(out)
        raise ZeroDivisionError
    wait_until(lambda: not set(pids) & running().keys())


def test_a_command_that_ends_by_itself_is_noticed_and_its_children_are_killed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with out.open("wb") as file, run_until_we_end(["sh", "-c", "sleep 60 & echo $!"], stdout=file) as process:
        wait_until(lambda: process.poll() is not None)
        (child,) = read_pids(out)
        wait_until(lambda: child not in running())


def test_a_command_is_in_no_group_that_the_terminals_ctrl_c_goes_to(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-c", "import os; print(os.getpgrp(), os.getsid(0))"]
    with out.open("wb") as file, run_until_we_end(command, stdout=file) as process:
        wait_until(lambda: process.poll() is not None)
    assert read_pids(out) == [process.pid, process.pid]


def test_a_directory_is_removed_with_all_that_is_in_it() -> None:
    with directory_until_we_end("batches-test-") as directory:
        (directory / "inner").mkdir()
        (directory / "inner" / "file").write_text("x")
    assert not directory.exists()


def test_nothing_is_left_of_a_process_that_was_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", OWNER], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout
        lines = [owner.stdout.readline().strip() for _ in range(2)]
        (pid,) = (int(line) for line in lines if line.isdigit())
        (directory,) = (Path(line) for line in lines if not line.isdigit())
        assert pid in running()
        assert (directory / "file").exists()
        owner.send_signal(signal.SIGKILL)
        owner.stdout.close()
    wait_until(lambda: pid not in running() and not directory.exists())
