"""The five minutes of the README do what it says they do."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

from celery_batches_notify.testing.child_process import run_until_we_end
from tests.docs.pages import ROOT, find_blocks, read_page
from tests.support.servers import wait_until

DEFAULT = "redis://localhost:6379/0"


def test_the_first_batch_of_the_readme_ends_as_it_says(
    tmp_path: Path, redis: object, server_url: str
) -> None:
    tasks, shell, *_ = find_blocks("README.md")
    (worker, *_) = find_blocks("README.md", "sh")
    printed, logged = (text.replace("\n", " ") for text in saids())
    (tmp_path / "tasks.py").write_text(tasks.code.replace(DEFAULT, server_url))
    environ = {**os.environ, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1"}
    log = tmp_path / "worker.log"
    command = [sys.executable, "-m", *worker.code.split(), "-c", "2"]
    with (
        log.open("wb") as output,
        run_until_we_end(command, cwd=tmp_path, env=environ, stdout=output, stderr=output),
    ):
        done = subprocess.run(
            [sys.executable, "-c", shell.code],
            cwd=tmp_path,
            env=environ,
            stdout=subprocess.PIPE,
            text=True,
            timeout=120,
            check=True,
        )
        assert done.stdout == f"{printed}\n"
        wait_until(lambda: logged in log.read_text(), what=f"{logged!r} in {log}")


def saids() -> list[str]:
    """Return the texts that the README says the shell prints and the worker logs."""
    (paragraph,) = re.findall(r"^It prints .*?\n\n", read_page("README.md"), re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", paragraph)
