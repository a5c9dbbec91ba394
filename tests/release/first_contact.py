"""By hand: follow the README, the tutorial and the examples from the built wheel, as a new user does.

`python -m tests.release.first_contact [PYTHON …]`. Runs what they say word for word, except that the wheel is
installed from a file; prints the seconds from the empty directory to each step. Needs free ports 6379, 8025,
5556 and 8000.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from celery_batches_notify.testing.child_process import run_until_we_end
from tests.docs.pages import ROOT, find_blocks, read_page
from tests.release.conftest import build
from tests.support.servers import wait_until

EXAMPLES = ("django", "fastapi", "flask")
NAME = "celery-batches-notify"


class Newcomer:
    """Somebody with an empty directory, a Python, and a page to follow."""

    def __init__(self, python: str, wheel: Path, directory: Path) -> None:
        self._wheel = wheel
        self.directory = directory
        self._began = time.monotonic()
        self._environ = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
        self._environ["PATH"] = f"{directory}/.venv/bin:{self._environ['PATH']}"
        self._environ["NO_PROXY"] = "127.0.0.1,localhost"
        subprocess.run([python, "-m", "venv", str(directory / ".venv")], check=True)

    def notes(self, what: str) -> None:
        """Print how long it has been since the directory was empty."""
        print(f"  {time.monotonic() - self._began:6.1f} s  {what}", flush=True)

    def installs(self, command: str) -> None:
        """Run a page's `pip install`, with the wheel for the name."""
        wanted = re.sub(rf"{NAME}(\[[\w,]+\])", rf"{self._wheel}\1", command)
        assert wanted != command, command
        self.runs(wanted.replace("pip install", "pip install -q --disable-pip-version-check"))
        self.notes("installed")

    def runs(self, command: str) -> str:
        """Run a command and return what it prints."""
        done = subprocess.run(
            ["sh", "-c", command],
            cwd=self.directory,
            env=self._environ,
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
        return done.stdout

    @contextmanager
    def starts(self, command: str) -> Iterator[Callable[[], str]]:
        """Run a command in a terminal of its own; yield what reads that terminal."""
        terminal = self.directory / f"terminal-{time.monotonic_ns()}"
        with (
            terminal.open("wb") as output,
            run_until_we_end(
                ["sh", "-c", f"exec {command}"],
                cwd=self.directory,
                env={**self._environ, "PYTHONUNBUFFERED": "1"},
                stdout=output,
                stderr=output,
            ),
        ):
            yield lambda: terminal.read_text("utf-8", "replace")


def commands(page: str) -> list[str]:
    """Return the commands of a page."""
    return [line for block in find_blocks(page, "sh") for line in block.code.splitlines()]


def follow_readme(reader: Newcomer) -> None:
    """Make the first batch as the README says."""
    text = read_page("README.md")
    reader.installs(*re.findall(r"^    (pip install .*)$", text, re.MULTILINE))
    [server] = re.findall(r"`(python -m celery_batches_notify\.testing\.server)`", text)
    tasks, shell, *_ = find_blocks("README.md")
    (reader.directory / "tasks.py").write_text(tasks.code)
    (reader.directory / "shell.py").write_text(shell.code)
    with ExitStack() as terminals:
        terminals.enter_context(reader.starts(server))
        worker = terminals.enter_context(reader.starts(commands("README.md")[0]))
        assert reader.runs("python shell.py") in text.replace("`", "\n"), "it prints something else"
        reader.notes("first batch")
        wait_until(lambda: "Import rows: 2 of 3" in worker(), what="the callback")
        reader.notes("first callback")


def follow_tutorial(reader: Newcomer) -> None:
    """Make the first batches, the first mail and the page as the tutorial says."""
    page = "tutorial/first-batch.md"
    _, _, install, demo, server, mail, worker, run, patient, web = commands(page)
    reader.installs(install)
    reader.runs(demo)
    reader.notes("seen the demo")
    files = {block.code.partition("\n")[0].removeprefix("# "): block.code for block in find_blocks(page)}
    later = files.pop("proj.py, continued")
    for name, code in files.items():
        (reader.directory / name).write_text(code)
    with ExitStack() as terminals:
        terminals.enter_context(reader.starts(server))
        mails = terminals.enter_context(reader.starts(mail))
        with reader.starts(worker):
            assert "2 +  1 -  of 3\ndead\n" in reader.runs(run)
            reader.notes("first batch")
            wait_until(lambda: "Subject: " in mails() and "missing.py" in mails(), what="the mail")
            reader.notes("first mail")
        with (reader.directory / "proj.py").open("a") as file:
            file.write(later)
        terminals.enter_context(reader.starts(worker))
        assert reader.runs(patient) == "complete: 2 + 1 -\nsuccess: 3 + 0 -\nsuccess\n"
        reader.notes("success after a retry")
        terminals.enter_context(reader.starts(web))
        wait_until(lambda: shows("http://127.0.0.1:5556/", "Checksums, one of them late"), what="the page")
        reader.notes("the page")


def follow_example(reader: Newcomer, example: str) -> None:
    """Start an example as its README says."""
    shutil.copytree(ROOT / "examples", reader.directory / "examples")
    text = (ROOT / "examples" / example / "README.md").read_text("utf-8")
    install, run = re.findall(r"^    (.*)$", text, re.MULTILINE)
    reader.installs(install)
    with reader.starts(run):
        wait_until(lambda: shows("http://127.0.0.1:8000/", "<form"), seconds=120, what=run)
        reader.notes(f"the form of {example}")


def shows(url: str, text: str) -> bool:
    """Return whether a page holds a text."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return text in answer.read().decode()
    except OSError:
        return False


def main() -> None:
    """Follow everything with each Python that the command line names."""
    with tempfile.TemporaryDirectory() as place:
        [wheel] = build(Path(place, "build")).glob("*.whl")
        for python in sys.argv[1:] or [sys.executable]:
            print(subprocess.check_output([python, "--version"], text=True).strip())
            for name in ("README", "tutorial", *EXAMPLES):
                print(f" {name}")
                directory = Path(tempfile.mkdtemp(dir=place))
                reader = Newcomer(python, wheel, directory)
                if name in EXAMPLES:
                    follow_example(reader, name)
                else:
                    {"README": follow_readme, "tutorial": follow_tutorial}[name](reader)


if __name__ == "__main__":
    main()
