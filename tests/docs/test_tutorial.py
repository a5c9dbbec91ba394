"""The tutorial's code and commands do what the tutorial says they do."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from celery_batches_notify.demo.receivers import Catch, catch_mail
from celery_batches_notify.testing.child_process import run_until_we_end
from celery_batches_notify.testing.server import find_free_port
from tests.support.servers import wait_until

ROOT = Path(__file__).parents[2]
TUTORIAL = (ROOT / "docs" / "tutorial" / "first-batch.md").read_text("utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BLOCKS = [(match[1], match[2]) for match in FENCE.finditer(TUTORIAL)]


class Project:
    """The directory that somebody has who follows the tutorial."""

    def __init__(self, directory: Path, redis_url: str, mail_port: int) -> None:
        self.directory = directory
        self.environ = {**os.environ, "REDIS_URL": redis_url, "PYTHONPATH": str(ROOT)}
        self.mail_port = mail_port
        self.log = directory / "worker.log"

    def write(self, file_name: str) -> None:
        """Write a file of the tutorial, or add to it what the tutorial says comes later."""
        with (self.directory / file_name.removesuffix(", continued")).open("a") as file:
            file.write(find_file(file_name).replace('"port": 8025', f'"port": {self.mail_port}'))

    def run(self, command: str) -> str:
        """Run one of the tutorial's commands and return what it prints."""
        assert ("sh", command + "\n") in BLOCKS
        arguments = command.removeprefix("python ").split()
        done = subprocess.run(
            [sys.executable, *arguments],
            cwd=self.directory,
            env=self.environ,
            stdout=subprocess.PIPE,
            text=True,
            timeout=60,
            check=True,
        )
        return done.stdout

    @contextmanager
    def worker(self) -> Iterator[None]:
        """Run the tutorial's worker."""
        with self.celery("worker", "-c", "2"):
            yield

    @contextmanager
    def celery(self, name: str, *more: str) -> Iterator[None]:
        """Run a Celery command of the tutorial, with further options."""
        assert ("sh", f"celery -A proj {name}\n") in BLOCKS
        command = [sys.executable, "-m", "celery", "-A", "proj", *name.split(), *more]
        with (
            self.log.open("ab") as log,
            run_until_we_end(command, cwd=self.directory, env=self.environ, stdout=log, stderr=log),
        ):
            yield

    def expect_logged(self, line: str) -> None:
        """Wait until the worker has logged a line of the tutorial."""
        assert any(kind == "text" and line in text.splitlines() for kind, text in BLOCKS)
        wait_until(lambda: line in self.log.read_text(), what=f"{line!r} in {self.log}")


def find_file(name: str) -> str:
    """The block that begins with a comment that names the file."""
    (found,) = (text for kind, text in BLOCKS if kind == "python" and text.startswith(f"# {name}\n"))
    return found


def find_output(first_line: str) -> str:
    """The block of output that begins with this line."""
    (found,) = (text for kind, text in BLOCKS if kind == "text" and text.startswith(f"{first_line}\n"))
    return found


@pytest.fixture
def mail() -> Iterator[Catch[EmailMessage]]:
    with catch_mail() as catch:
        yield catch


@pytest.fixture
def project(tmp_path: Path, redis: object, server_url: str, mail: Catch[EmailMessage]) -> Project:
    return Project(tmp_path, server_url, mail.port)


def test_the_first_batch_ends_as_the_tutorial_says(project: Project, mail: Catch[EmailMessage]) -> None:
    project.write("proj.py")
    project.write("run.py")
    with project.worker():
        output = project.run("python run.py")
        assert output.endswith(find_output("2 +  1 -  of 3"))
        project.expect_logged("finished: Checksums of this project, 2 of 3")
        letter = mail.wait_for(lambda letter: letter["To"] == "you@example.com", 30)
    assert letter is not None
    assert "Checksums of this project" in letter["Subject"]
    part = letter.get_body(("plain",))
    assert part is not None and "missing.py" in part.get_content()


def test_the_patient_batch_is_complete_before_it_succeeds(project: Project) -> None:
    for name in ("proj.py", "proj.py, continued", "run.py", "patient.py"):
        project.write(name)
    with project.worker():
        assert project.run("python patient.py") == find_output("complete: 2 + 1 -")
        project.expect_logged("complete: Checksums, one of them late, 2 of 3")
        project.expect_logged("success: Checksums, one of them late, 3 of 3")


def test_the_page_shows_the_batch_and_what_its_callbacks_did(project: Project) -> None:
    project.write("proj.py")
    project.write("run.py")
    port = find_free_port()
    with project.worker(), project.celery("batch web", "--port", str(port)):
        project.run("python run.py")
        said = find_output("the page is at http://127.0.0.1:5556/ until Ctrl-C").replace("5556", str(port))
        wait_until(lambda: said in project.log.read_text(), what=said)
        (row,) = read(port, "list.json")["batches"]
        wait_until(lambda: "delivered" in str(read(port, f"{row['bid']}.json")["callbacks"]))
        assert read(port, f"{row['bid']}.json")["dead"] == 1


def read(port: int, path: str) -> Any:
    """Read JSON from the page; it may just have begun to start."""
    answers: list[Any] = []

    def ask() -> bool:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/{path}", timeout=30) as answer:
                answers.append(json.load(answer))
        except urllib.error.URLError:
            return False
        return True

    wait_until(ask, what=path)
    return answers[0]


def test_every_block_of_python_belongs_to_a_file_that_is_run() -> None:
    names = {text.partition("\n")[0] for kind, text in BLOCKS if kind == "python"}
    assert names == {"# proj.py", "# proj.py, continued", "# run.py", "# patient.py"}


def test_every_command_is_known_to_work() -> None:
    commands = {line for kind, text in BLOCKS if kind == "sh" for line in text.splitlines()}
    assert commands == {
        "mkdir first-batch && cd first-batch",
        "python3 -m venv .venv && . .venv/bin/activate",
        'pip install "celery-batches-notify[demo,web]"',
        "celery-batches-demo",
        "python -m celery_batches_notify.testing.server",
        "python -m aiosmtpd -n -l localhost:8025",
        "celery -A proj worker",
        "celery -A proj batch web",
        "python run.py",
        "python patient.py",
    }


def test_the_pictures_of_the_tutorial_are_there() -> None:
    for path in re.findall(r"!\[[^]]*\]\(([^)]+)\)", TUTORIAL):
        assert (ROOT / "docs" / "tutorial" / path).resolve().is_file()
